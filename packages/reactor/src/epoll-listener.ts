import type { SocketAddress } from "@tulle/base";
import { accept, AddressBuffer, Descriptor, Errno, localAddress, NO_ADDRESS, SystemError } from "@tulle/linux";
import { AGAIN, type Listener, type ListenerHandler, type Timer } from "./contract.ts";
import { EpollConnection, NO_HANDLER } from "./epoll-connection.ts";
import {
  ACCEPT_BACKOFF_MS,
  ACCEPTS_PER_TURN,
  type EpollCore,
  type EventTarget,
  LISTENER_INTEREST,
} from "./epoll-core.ts";

/** accept(2): the connection failed before it was accepted; the next one may be fine. */
const CONNECTION_FAILED: ReadonlySet<number> = new Set(
  [
    Errno.EINTR,
    Errno.ECONNABORTED,
    Errno.EPROTO,
    Errno.ENOPROTOOPT,
    Errno.EOPNOTSUPP,
    Errno.ENETDOWN,
    Errno.ENETUNREACH,
    Errno.EHOSTUNREACH,
  ].map((error) => -error),
);

const peer = new AddressBuffer();

/** A listening socket on epoll. */
export class EpollListener implements Listener, EventTarget {
  readonly address: SocketAddress;
  readonly transparent: boolean;
  readonly #core: EpollCore;
  readonly #descriptor: Descriptor;
  readonly #handler: ListenerHandler;
  readonly #after: (delayMs: number, callback: () => void) => Timer;
  readonly #slot: number;
  #paused = false;
  #backoff: Timer | undefined;
  /** How many to accept: grows while every turn finds more, so that a lone connection costs no call that finds nothing. */
  #share = 1;
  #lastTurn = -1;

  /** Takes over the descriptor. Throws SystemError. */
  constructor(
    core: EpollCore,
    socket: { readonly descriptor: Descriptor; readonly transparent: boolean },
    handler: ListenerHandler,
    after: (delayMs: number, callback: () => void) => Timer,
  ) {
    this.#core = core;
    this.#descriptor = socket.descriptor;
    this.transparent = socket.transparent;
    this.#handler = handler;
    this.#after = after;
    this.address = localAddress(socket.descriptor, peer) < 0 ? NO_ADDRESS : peer.decode();
    this.#slot = core.register(this, socket.descriptor, LISTENER_INTEREST);
    core.open.listeners++;
  }

  pause(): void {
    if (this.#paused || this.#descriptor.closed) return;
    this.#paused = true;
    this.#applyInterest();
  }

  resume(): void {
    if (!this.#paused || this.#descriptor.closed) return;
    this.#paused = false;
    this.#applyInterest();
  }

  close(): void {
    if (this.#descriptor.closed) return;
    this.#backoff?.cancel();
    this.#core.targets.remove(this.#slot);
    this.#descriptor.close();
    this.#core.open.listeners--;
  }

  onEvents(): void {
    const { turn } = this.#core;
    this.#share = turn === this.#lastTurn + 1 ? Math.min(this.#share * 2, ACCEPTS_PER_TURN) : 1;
    this.#lastTurn = turn;
    for (let i = 0; i < this.#share && !this.#paused; i++) {
      const fd = accept(this.#descriptor, peer);
      if (fd >= 0) this.#deliver(new Descriptor(fd, "connection"));
      else if (fd === AGAIN || this.#descriptor.closed) return;
      else if (!CONNECTION_FAILED.has(fd)) {
        this.#fail(fd);
        return;
      }
    }
  }

  #deliver(descriptor: Descriptor): void {
    const connection = new EpollConnection(this.#core);
    try {
      connection.beginAccepted(descriptor, peer);
    } catch (error) {
      connection.reset();
      this.#fail(error instanceof SystemError ? -error.errno : -Errno.EIO);
      return;
    }
    try {
      this.#handler.onAccept(connection);
      if (connection.handler === NO_HANDLER && !connection.closed) {
        throw new Error("onAccept has returned without setHandler or reset");
      }
    } catch (error) {
      this.#core.fault(error, connection);
    }
  }

  /** Waits, since the kernel would report the same connection again at once. */
  #fail(error: number): void {
    if (this.#descriptor.closed || this.#backoff !== undefined) return;
    this.#backoff = this.#after(ACCEPT_BACKOFF_MS, () => {
      this.#backoff = undefined;
      this.#applyInterest();
    });
    this.#applyInterest();
    try {
      this.#handler.onAcceptError(error);
    } catch (fault) {
      this.#core.fault(fault);
    }
  }

  #applyInterest(): void {
    const waits = this.#paused || this.#backoff !== undefined;
    this.#core.setInterest(this.#slot, this.#descriptor, waits ? 0 : LISTENER_INTEREST);
  }
}
