import type { SocketAddress } from "@tulle/base";
import {
  AddressBuffer,
  CLOSED,
  connect,
  type Descriptor,
  Errno,
  familyOf,
  localAddress,
  type NativeBuffer,
  NO_ADDRESS,
  receiveFrom,
  sendTo,
} from "@tulle/linux";
import { AGAIN, type DatagramHandler, type DatagramSocket, type Task } from "./contract.ts";
import { DATAGRAM_INTEREST, DATAGRAMS_PER_TURN, type EpollCore, type EventTarget } from "./epoll-core.ts";

/** A UDP socket on epoll. */
export class EpollDatagram implements DatagramSocket, EventTarget, Task {
  readonly address: SocketAddress;
  /** For the ready queue. */
  deferred = false;
  readonly #core: EpollCore;
  readonly #descriptor: Descriptor;
  readonly #handler: DatagramHandler;
  readonly #slot: number;
  readonly #family: number;
  readonly #from = new AddressBuffer();
  readonly #to = new AddressBuffer();
  #sender: SocketAddress | undefined = NO_ADDRESS;
  #readable = false;
  #armed = true;
  #turn = -1;
  #left = 0;

  /** Takes over the descriptor. Throws SystemError. */
  constructor(core: EpollCore, descriptor: Descriptor, handler: DatagramHandler) {
    this.#core = core;
    this.#descriptor = descriptor;
    this.#handler = handler;
    this.address = localAddress(descriptor, this.#to) < 0 ? NO_ADDRESS : this.#to.decode();
    this.#family = familyOf(this.address.ip);
    this.#slot = core.register(this, descriptor, DATAGRAM_INTEREST);
    core.open.datagrams++;
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  get sender(): SocketAddress {
    this.#sender ??= this.#from.decode();
    return this.#sender;
  }

  /** Besides the contract: -EMSGSIZE for a datagram that did not fit (it is gone). */
  receive(buffer: NativeBuffer, offset: number, length: number): number {
    if (this.#descriptor.closed) return CLOSED;
    const core = this.#core;
    if (this.#turn !== core.turn) {
      this.#turn = core.turn;
      this.#left = DATAGRAMS_PER_TURN;
    }
    if (!this.#readable || this.#left === 0) {
      this.#armed = true;
      if (this.#readable) core.ready.add(this);
      return AGAIN;
    }
    const count = receiveFrom(this.#descriptor, buffer, offset, length, this.#from);
    this.#left--;
    if (count === AGAIN) {
      this.#readable = false;
      this.#armed = true;
      return AGAIN;
    }
    this.#sender = undefined;
    return count > length ? -Errno.EMSGSIZE : count;
  }

  send(buffer: NativeBuffer, offset: number, length: number, to: SocketAddress): number {
    if (this.#descriptor.closed) return CLOSED;
    const size = this.#to.encode(to.ip, to.port, this.#family);
    if (size === 0) return -Errno.EINVAL;
    return sendTo(this.#descriptor, buffer, offset, length, this.#to, size);
  }

  retire(): void {
    if (this.#descriptor.closed) return;
    // A connected socket gets nothing but its peer's datagrams, and this one's peer is itself.
    const { ip, port } = this.address;
    connect(this.#descriptor, this.#to, this.#to.encode(ip, port, this.#family));
  }

  close(): void {
    if (this.#descriptor.closed) return;
    this.#core.targets.remove(this.#slot);
    this.#descriptor.close();
    this.#core.open.datagrams--;
  }

  onEvents(): void {
    this.#readable = true;
    this.run();
  }

  run(): void {
    if (this.#descriptor.closed || !this.#armed || !this.#readable) return;
    this.#armed = false;
    try {
      this.#handler.onReadable(this);
    } catch (error) {
      this.#core.fault(error);
    }
  }
}
