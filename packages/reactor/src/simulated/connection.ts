import type { SocketAddress } from "@tulle/base";
import { Errno, type NativeBuffer } from "@tulle/linux";
import { AGAIN, type Connection, type ConnectionHandler } from "../contract.ts";
import type { SimulatedNamespace, SimulatedNetwork } from "./network.ts";
import { Pipe } from "./pipe.ts";
import type { SimulatedReactor } from "./reactor.ts";

/** Bytes and reads that one connection gets in a turn, as with the epoll reactor's budget, but small to show what it breaks. */
const TURN_BYTES = 262_144;
const TURN_READS = 16;

/** One end of a simulated TCP connection. */
export class SimulatedConnection implements Connection {
  readonly id: number;
  readonly namespace: SimulatedNamespace;
  readonly local: SocketAddress;
  readonly peer: SocketAddress;
  closed = false;
  readonly #reactor: SimulatedReactor;
  readonly #original: SocketAddress;
  #handler: ConnectionHandler | undefined;
  #in: Pipe | undefined;
  #out: Pipe | undefined;
  /** An accepted connection is from the start; one that we make, once the answer has come. */
  #established: boolean;
  #finSent = false;
  /** The handler has seen AGAIN (or nothing yet): it wants to hear of new bytes. */
  #wantsReadable = true;
  #wantsRoom = false;
  #brokenWrites = false;
  #turn = -1;
  #bytes = 0;
  #reads = 0;

  constructor(options: {
    readonly reactor: SimulatedReactor;
    readonly namespace: SimulatedNamespace;
    readonly local: SocketAddress;
    readonly peer: SocketAddress;
    readonly original: SocketAddress;
    readonly handler?: ConnectionHandler;
  }) {
    this.id = options.reactor.network.nextId();
    this.#reactor = options.reactor;
    this.namespace = options.namespace;
    this.local = options.local;
    this.peer = options.peer;
    this.#original = options.original;
    this.#handler = options.handler;
    this.#established = options.handler === undefined;
    this.#reactor.connections.add(this);
  }

  /** Joins two ends by two pipes. */
  static join(network: SimulatedNetwork, a: SimulatedConnection, b: SimulatedConnection): void {
    const pipe = (from: SimulatedConnection, to: SimulatedConnection) => {
      const made = new Pipe(network, `${from.id}>${to.id}`, {
        from: from.namespace,
        to: to.namespace,
        onReadable: () => to.#onReadable(),
        onRoom: () => from.#onRoom(),
      });
      made.onRefused = () => to.#out?.reset();
      from.#out = made;
      to.#in = made;
    };
    pipe(a, b);
    pipe(b, a);
  }

  originalDestination(): SocketAddress {
    return this.#original;
  }

  setHandler(handler: ConnectionHandler): void {
    this.#handler = handler;
  }

  read(buffer: NativeBuffer, offset: number, length: number): number {
    buffer.check(offset, length);
    if (length === 0) throw new RangeError("a read of nothing would look like the end");
    if (this.closed) return -Errno.EBADF;
    const pipe = this.#in;
    if (pipe === undefined) return AGAIN;
    if (pipe.readable > 0) {
      if (this.#spent()) {
        this.resumeReading();
        return AGAIN;
      }
      const done = pipe.read(buffer.bytes, offset, length);
      this.#bytes += done;
      this.#reads++;
      return done;
    }
    if (pipe.wasReset) return -Errno.ECONNRESET;
    // After EOF a reset may still come.
    this.#wantsReadable = true;
    return pipe.ended ? 0 : AGAIN;
  }

  write(buffer: NativeBuffer, offset: number, length: number): number {
    buffer.check(offset, length);
    if (this.closed) return -Errno.EBADF;
    const pipe = this.#out;
    if (pipe === undefined || !this.#established) {
      this.#wantsRoom = true;
      return AGAIN;
    }
    if (this.#finSent || this.#brokenWrites) return -Errno.EPIPE;
    if (this.#in?.wasReset) {
      this.#brokenWrites = true;
      return -Errno.ECONNRESET;
    }
    if (length === 0) return 0;
    const done = pipe.write(buffer.bytes.subarray(offset, offset + length));
    if (done < length) this.#wantsRoom = true;
    return done === 0 ? AGAIN : done;
  }

  resumeReading(): void {
    if (this.closed) return;
    this.#wantsReadable = true;
    if (this.#in?.readyToRead) this.#onReadable();
  }

  shutdownWrite(): void {
    if (this.closed || this.#finSent) return;
    this.#finSent = true;
    if (this.#established) this.#out?.finish();
  }

  reset(): void {
    if (this.closed) return;
    this.#leave();
    this.#out?.reset();
  }

  close(): void {
    if (this.closed) return;
    this.#leave();
    // The kernel answers unread bytes by a reset.
    if (this.#in?.abandon() || this.#in?.wasReset) this.#out?.reset();
    else this.#out?.finish();
  }

  // === for the network

  connected(error: number): void {
    if (this.closed) return;
    const handler = this.#handler;
    if (error !== 0) this.#leave();
    this.#established = true;
    this.#reactor.enqueue(this, () => handler?.onConnected(this, error));
    if (error !== 0) return;
    if (this.#finSent) this.#out?.finish();
    else this.#onRoom();
    if (this.#in?.readyToRead) this.#onReadable();
  }

  get handler(): ConnectionHandler | undefined {
    return this.#handler;
  }

  #onReadable(): void {
    if (this.closed || !this.#wantsReadable) return;
    this.#wantsReadable = false;
    this.#reactor.enqueue(this, () => {
      if (!this.closed) this.#handler?.onReadable(this);
    });
  }

  #onRoom(): void {
    if (this.closed || !this.#wantsRoom) return;
    this.#wantsRoom = false;
    this.#reactor.enqueue(this, () => {
      if (!this.closed) this.#handler?.onWritable(this);
    });
  }

  #spent(): boolean {
    if (this.#turn !== this.#reactor.turns) {
      this.#turn = this.#reactor.turns;
      this.#bytes = 0;
      this.#reads = 0;
    }
    return this.#bytes >= TURN_BYTES || this.#reads >= TURN_READS;
  }

  #leave(): void {
    this.closed = true;
    this.#reactor.connections.delete(this);
    if (!this.#in?.wasReset) this.#reactor.network.record("close", String(this.id));
  }
}
