import { calls, lastError } from "../calls.ts";
import { AF_NETLINK, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from "../constants.ts";
import { Descriptor } from "../descriptor.ts";
import { Errno, SystemError } from "../errno.ts";
import { NativeBuffer } from "../native-buffer.ts";
import type { NetNamespace } from "../net-namespace.ts";
import {
  decodeMessages,
  encodeMessage,
  HEADER_SIZE,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from "./message.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;

/** `struct sockaddr_nl`. */
const SOCKADDR_NL_SIZE = 12;
const SOCKADDR_NL_GROUPS = 8;
/** The kernel answers in pieces of at most 32 KiB (netlink_dump). */
const RECEIVE_BYTES = 65_536;
/** Pieces of one dump: 2 GB of answers come from no namespace that works. */
const MAX_PIECES = 32_768;
const buffer = NativeBuffer.alloc(RECEIVE_BYTES);

/**
 * Asks the kernel about one network namespace. The kernel answers within the call that asks (or, for dumps, the one that
 * reads), so nothing here waits. Throws SystemError with the kernel's errno.
 */
export class NetlinkSocket implements Disposable {
  readonly #descriptor: Descriptor;
  #sequence = 0;

  private constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor;
  }

  static open(protocol: number, namespace: NetNamespace): NetlinkSocket {
    return namespace.enter(() => NetlinkSocket.openHere(protocol));
  }

  /** In the namespace that the thread is in. */
  static openHere(protocol: number): NetlinkSocket {
    const fd = calls.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0) throw new SystemError("create a netlink socket", lastError());
    return new NetlinkSocket(new Descriptor(fd, "netlink"));
  }

  /** Everything of a kind. */
  dump(type: number, payload: Uint8Array): NetlinkMessage[] {
    this.#send(type, NLM_F_REQUEST | NLM_F_DUMP, payload);
    const messages: NetlinkMessage[] = [];
    for (let piece = 0; piece < MAX_PIECES; piece++) {
      for (const message of this.#receive()) {
        if (message.type === NLMSG_DONE) return messages;
        if (message.type === NLMSG_ERROR) throwError(message);
        messages.push(message);
      }
    }
    throw new RangeError("a netlink dump does not end");
  }

  /** The one message that answers a question. */
  ask(type: number, payload: Uint8Array): NetlinkMessage {
    this.#send(type, NLM_F_REQUEST, payload);
    const [message] = this.#receive();
    if (message === undefined) throw new RangeError("the kernel gave an empty answer");
    if (message.type === NLMSG_ERROR) throwError(message);
    return message;
  }

  /** Changes something; returns 0 or the kernel's negative errno. */
  change(type: number, flags: number, payload: Uint8Array): number {
    this.#send(type, NLM_F_REQUEST | NLM_F_ACK | flags, payload);
    const [message] = this.#receive();
    return message?.type === NLMSG_ERROR ? message.payload.readInt32LE(0) : 0;
  }

  /** Lets the kernel tell of changes; `groups` is a mask. Throws SystemError. */
  subscribe(groups: number): void {
    const address = NativeBuffer.alloc(SOCKADDR_NL_SIZE);
    address.bytes.writeUInt16LE(AF_NETLINK, 0);
    address.bytes.writeUInt32LE(groups, SOCKADDR_NL_GROUPS);
    if (calls.bind(this.#descriptor.fd, address.pointer, SOCKADDR_NL_SIZE) < 0) {
      throw new SystemError("subscribe to netlink", lastError());
    }
  }

  /** Throws away what the kernel has told; how many times it has, or had more to tell than there was room for. */
  drain(): number {
    for (let count = 0; count < MAX_PIECES; ) {
      // Longer messages are cut off: only that there was one matters.
      const received = calls.recvfrom(this.#descriptor.fd, buffer.pointer, HEADER_SIZE, 0, 0n, 0n);
      const error = received < 0 ? lastError() : 0;
      if (error === -Errno.EAGAIN) return count;
      if (error < 0 && error !== -Errno.ENOBUFS) throw new SystemError("receive from netlink", error);
      count++;
    }
    return MAX_PIECES;
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #send(type: number, flags: number, payload: Uint8Array): void {
    const bytes = NativeBuffer.from(encodeMessage(type, flags, ++this.#sequence, payload));
    // Unconnected netlink sockets speak to the kernel.
    const sent = calls.sendto(this.#descriptor.fd, bytes.pointer, bytes.length, 0, 0n, 0);
    if (sent < 0) throw new SystemError("send to netlink", lastError());
  }

  #receive(): NetlinkMessage[] {
    const count = calls.recvfrom(this.#descriptor.fd, buffer.pointer, RECEIVE_BYTES, 0, 0n, 0n);
    if (count < 0) throw new SystemError("receive from netlink", lastError());
    return decodeMessages(buffer.bytes.subarray(0, count));
  }
}

function throwError(message: NetlinkMessage): never {
  throw new SystemError("ask the kernel by netlink", message.payload.readInt32LE(0));
}
