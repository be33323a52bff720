import type { SocketAddress } from "@tulle/base";
import { Errno, type NativeBuffer } from "@tulle/linux";
import { AGAIN, type DatagramHandler, type DatagramOptions, type DatagramSocket } from "../contract.ts";
import type { SimulatedNamespace } from "./network.ts";
import type { SimulatedReactor } from "./reactor.ts";

/** Datagrams that wait to be received; the kernel drops more. */
const QUEUE = 256;

/** A UDP socket: datagrams may be lost, and arrive in any order. */
export class SimulatedDatagramSocket implements DatagramSocket {
  readonly address: SocketAddress;
  closed = false;
  sender: SocketAddress = { ip: "", port: 0 };
  readonly #reactor: SimulatedReactor;
  readonly #namespace: SimulatedNamespace;
  readonly #handler: DatagramHandler;
  readonly #received: { readonly bytes: Buffer; readonly from: SocketAddress }[] = [];
  #wantsReadable = true;

  constructor(
    reactor: SimulatedReactor,
    namespace: SimulatedNamespace,
    options: DatagramOptions,
    handler: DatagramHandler,
  ) {
    this.#reactor = reactor;
    this.#namespace = namespace;
    this.#handler = handler;
    const port = options.address.port === 0 ? namespace.ephemeralPort() : options.address.port;
    this.address = { ip: options.address.ip, port };
    namespace.datagrams.set(port, this);
    reactor.datagrams.add(this);
  }

  receive(buffer: NativeBuffer, offset: number, length: number): number {
    buffer.check(offset, length);
    if (this.closed) return -Errno.EBADF;
    const datagram = this.#received.shift();
    if (datagram === undefined) {
      this.#wantsReadable = true;
      return AGAIN;
    }
    this.sender = datagram.from;
    return datagram.bytes.length > length ? -Errno.EMSGSIZE : datagram.bytes.copy(buffer.bytes, offset);
  }

  send(buffer: NativeBuffer, offset: number, length: number, to: SocketAddress): number {
    buffer.check(offset, length);
    if (this.closed) return -Errno.EBADF;
    const { network } = this.#reactor;
    const target = this.#namespace.owns(to.ip) ? this.#namespace : network.owner(to.ip);
    const bytes = Buffer.from(buffer.bytes.subarray(offset, offset + length));
    network.record("datagram", `${this.address.port}>${to.ip}:${to.port}`, bytes);
    if (target === undefined || network.happens(network.faults.datagramLoss)) return length;
    const from = { ip: this.#namespace.sourceFor(to.ip), port: this.address.port };
    const at = network.arrival(this.#namespace, target, 0);
    network.scheduleAt(at, () => target.datagrams.get(to.port)?.deliver(bytes, from));
    return length;
  }

  retire(): void {
    // Another one may have bound the port meanwhile.
    const { datagrams } = this.#namespace;
    if (datagrams.get(this.address.port) === this) datagrams.delete(this.address.port);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#reactor.datagrams.delete(this);
    this.retire();
  }

  deliver(bytes: Buffer, from: SocketAddress): void {
    if (this.closed || this.#received.length >= QUEUE) return;
    this.#received.push({ bytes, from });
    if (!this.#wantsReadable) return;
    this.#wantsReadable = false;
    this.#reactor.enqueue(undefined, () => {
      if (!this.closed) this.#handler.onReadable(this);
    });
  }
}
