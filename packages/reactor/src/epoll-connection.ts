import type { SocketAddress } from "@tulle/base";
import {
  AddressBuffer,
  CLOSED,
  type Descriptor,
  Errno,
  ipFromWords,
  isMappedV4,
  localAddress,
  type NativeBuffer,
  NO_ADDRESS,
  originalDestination,
  Readiness,
  read,
  setResetOnClose,
  shutdownWrite,
  takeError,
  write,
} from "@tulle/linux";
import { AGAIN, type Connection, type ConnectionHandler, type Task, type Timer } from "./contract.ts";
import {
  type EpollCore,
  type EventTarget,
  READ_BYTES_PER_TURN,
  READ_CALLS_PER_TURN,
  STREAM_INTEREST,
} from "./epoll-core.ts";

const { readable: IN, writable: OUT, error: ERR, hangUp: HUP, peerClosed: RDHUP, urgent: PRI } = Readiness;
const ANY_READ = IN | RDHUP | HUP | ERR | PRI;
const ANY_WRITE = OUT | ERR | HUP;
/** After these a short read does not mean that the receive queue is empty: FIN, RST or an urgent mark may follow. */
const MORE_TO_SEE = RDHUP | HUP | ERR | PRI;

const INTERRUPTED = -Errno.EINTR;

/** Takes the answers of address questions; each is decoded at once. */
const answer = new AddressBuffer();

/** Stands in until `setHandler`: an accepted connection that nobody wanted is a fault of its listener's handler. */
export const NO_HANDLER: ConnectionHandler = {
  onConnected: missing,
  onReadable: missing,
  onWritable: missing,
};

/** A TCP connection on epoll. States: connecting → open → closed; or failing (connect failed at once) → closed. */
export class EpollConnection implements Connection, EventTarget, Task {
  readonly id: number;
  /** For the ready queue. */
  deferred = false;
  handler: ConnectionHandler = NO_HANDLER;

  readonly #core: EpollCore;
  #descriptor: Descriptor | undefined;
  #slot = -1;
  #closed = false;
  #connecting = false;
  #deadline: Timer | undefined;
  #failure = 0;
  /** The kernel may have something to read. */
  #readable = false;
  /** The handler waits to be told. */
  #armed = true;
  #moreToSee = false;
  /** The end was read; an error that comes later is kept for the next read, since the kernel would go on saying 0. */
  #ended = false;
  #lateError = 0;
  /** The kernel has no room, and whether the handler waits for some. */
  #blocked = false;
  #wantsWritable = false;
  #shutdownWanted = false;
  /** What is left of this connection's share of turn `#turn`. */
  #turn = -1;
  #bytesLeft = 0;
  #callsLeft = 0;
  /** The peer as AddressBuffer loads it, until somebody asks for it. */
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;
  #port = 0;
  #peer: SocketAddress | undefined;
  #local: SocketAddress | undefined;
  #original: SocketAddress | undefined;

  constructor(core: EpollCore) {
    this.#core = core;
    this.id = core.nextConnectionId++;
    core.open.connections++;
  }

  get closed(): boolean {
    return this.#closed;
  }

  get peer(): SocketAddress {
    this.#peer ??= { ip: ipFromWords(this.#a, this.#b, this.#c, this.#d), port: this.#port };
    return this.#peer;
  }

  get local(): SocketAddress {
    if (this.#local !== undefined) return this.#local;
    if (this.#descriptor === undefined || localAddress(this.#descriptor, answer) < 0) return NO_ADDRESS;
    this.#local = answer.decode();
    return this.#local;
  }

  originalDestination(): SocketAddress {
    if (this.#original !== undefined) return this.#original;
    if (this.#descriptor === undefined) return this.local;
    const v6 = this.#peer === undefined ? !isMappedV4(this.#a, this.#b, this.#c) : this.#peer.ip.includes(":");
    const known = originalDestination(this.#descriptor, v6, answer) === 0;
    this.#original = known ? answer.decode() : this.local;
    return this.#original;
  }

  setHandler(handler: ConnectionHandler): void {
    this.handler = handler;
  }

  read(buffer: NativeBuffer, offset: number, length: number): number {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return CLOSED;
    // Nothing asked for would give 0, and 0 is the end of the stream.
    if (length === 0) throw new RangeError("a read of no bytes would look like the end of the stream");
    const core = this.#core;
    if (!this.#readable) {
      buffer.check(offset, length);
      this.#armed = true;
      return AGAIN;
    }
    if (this.#turn !== core.turn) {
      this.#turn = core.turn;
      this.#bytesLeft = READ_BYTES_PER_TURN;
      this.#callsLeft = READ_CALLS_PER_TURN;
    }
    if (this.#bytesLeft <= 0 || this.#callsLeft === 0) {
      this.#armed = true;
      core.ready.add(this);
      return AGAIN;
    }
    const count = read(descriptor, buffer, offset, length);
    this.#callsLeft--;
    if (count > 0) {
      this.#bytesLeft -= count;
      // The receive queue is empty now; what comes later makes a new edge. Saves the call that would give EAGAIN.
      if (count < length && !this.#moreToSee) this.#readable = false;
      return count;
    }
    if (count === AGAIN) {
      this.#readable = false;
      this.#armed = true;
    } else if (count === 0) {
      this.#ended = true;
      return this.#lateError;
    } else if (count === INTERRUPTED) {
      this.resumeReading();
      return AGAIN;
    }
    return count;
  }

  write(buffer: NativeBuffer, offset: number, length: number): number {
    const descriptor = this.#descriptor;
    if (descriptor === undefined) return CLOSED;
    if (this.#blocked) {
      buffer.check(offset, length);
      this.#wantsWritable = true;
      return AGAIN;
    }
    const count = write(descriptor, buffer, offset, length);
    if (count === length) return count;
    if (count >= 0 || count === AGAIN) {
      this.#blocked = true;
      this.#wantsWritable = true;
    }
    return count;
  }

  resumeReading(): void {
    if (this.#closed) return;
    this.#armed = true;
    if (this.#readable) this.#core.ready.add(this);
  }

  shutdownWrite(): void {
    if (this.#descriptor === undefined) return;
    // In SYN_SENT it would end the attempt; -ENOTCONN means that there is nobody to tell any more.
    if (this.#connecting) this.#shutdownWanted = true;
    else shutdownWrite(this.#descriptor);
  }

  reset(): void {
    if (this.#descriptor !== undefined) setResetOnClose(this.#descriptor);
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#deadline?.cancel();
    this.#core.open.connections--;
    if (this.#slot >= 0) this.#core.targets.remove(this.#slot);
    this.#descriptor?.close();
    this.#descriptor = undefined;
    this.handler = NO_HANDLER;
  }

  /** The core's turn to hand out what became ready. */
  onEvents(events: number): void {
    if (this.#connecting && !this.#finishConnecting(events)) return;
    if ((events & MORE_TO_SEE) !== 0) this.#moreToSee = true;
    if ((events & ANY_READ) !== 0) this.#readable = true;
    if (this.#ended && (events & ERR) !== 0 && this.#lateError === 0) {
      // After a FIN the kernel calls it EPIPE, the writer's word; this is for a reader.
      if (takeError(this.#descriptor as Descriptor) !== 0) this.#lateError = -Errno.ECONNRESET;
      this.#armed = true;
    }
    if (this.#wantsWritable && (events & ANY_WRITE) !== 0) {
      this.#blocked = false;
      this.#wantsWritable = false;
      this.#call("onWritable");
    }
    if (this.#readable && this.#armed) this.run();
  }

  /** From the ready queue: there may be more to read; or connect failed before it began. */
  run(): void {
    if (this.#closed) return;
    if (this.#failure !== 0) {
      this.#end(this.#failure);
    } else if (this.#armed && this.#readable) {
      this.#armed = false;
      this.#call("onReadable");
    }
  }

  /** An accepted connection begins: the peer is what accept has left in `peer`. Throws SystemError. */
  beginAccepted(descriptor: Descriptor, peer: AddressBuffer): void {
    this.#descriptor = descriptor;
    peer.load();
    this.#a = peer.a;
    this.#b = peer.b;
    this.#c = peer.c;
    this.#d = peer.d;
    this.#port = peer.port;
    this.#slot = this.#core.register(this, descriptor, STREAM_INTEREST);
  }

  /** A connection to `peer` is on its way. Throws SystemError. */
  beginConnecting(descriptor: Descriptor): void {
    this.#descriptor = descriptor;
    this.#connecting = true;
    this.#blocked = true;
    this.#slot = this.#core.register(this, descriptor, STREAM_INTEREST);
  }

  /** When `connectingTooLong` is to be called; cancelled when it need not be. */
  setDeadline(deadline: Timer): void {
    this.#deadline = deadline;
  }

  connectingTooLong(): void {
    if (this.#connecting) this.#end(-Errno.ETIMEDOUT);
  }

  setPeer(peer: SocketAddress): void {
    this.#peer = peer;
  }

  /** Connecting failed at once: the handler hears of it later, as of every failure. */
  beginFailing(error: number): void {
    this.#descriptor?.close();
    this.#descriptor = undefined;
    this.#failure = error;
    // Not with epoll, but where the reactor finds what it has to close.
    this.#slot = this.#core.targets.add(this);
    this.#core.ready.add(this);
  }

  /** False when there is nothing more to do for these events. */
  #finishConnecting(events: number): boolean {
    if ((events & ANY_WRITE) === 0) return false;
    const descriptor = this.#descriptor as Descriptor;
    const error = (events & (ERR | HUP)) === 0 ? 0 : takeError(descriptor);
    if (error !== 0) {
      this.#end(error);
      return false;
    }
    this.#connecting = false;
    this.#deadline?.cancel();
    this.#blocked = false;
    if (this.#shutdownWanted) shutdownWrite(descriptor);
    try {
      this.handler.onConnected(this, 0);
    } catch (fault) {
      this.#core.fault(fault, this);
    }
    return !this.#closed;
  }

  #end(error: number): void {
    const { handler } = this;
    this.close();
    try {
      handler.onConnected(this, error);
    } catch (fault) {
      this.#core.fault(fault);
    }
  }

  #call(event: "onReadable" | "onWritable"): void {
    try {
      if (event === "onReadable") this.handler.onReadable(this);
      else this.handler.onWritable(this);
    } catch (fault) {
      this.#core.fault(fault, this);
    }
  }
}

function missing(): void {
  throw new Error("the connection has no handler: call setHandler");
}
