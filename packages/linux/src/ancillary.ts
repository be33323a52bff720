import { MSG_CTRUNC, MSG_TRUNC, SCM_RIGHTS, SOL_SOCKET } from "./constants.ts";
import type { Descriptor } from "./descriptor.ts";
import { cmsghdrLayout as cmsg, iovecLayout as iovec, msghdrLayout as msghdr } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** Descriptors that one packet may carry here; ZDS sends one. The kernel drops what is more and says so (MSG_CTRUNC). */
export const MAX_DESCRIPTORS_PER_PACKET = 16;

const INT_SIZE = 4;
const CONTROL_SIZE = cmsg.data + align(MAX_DESCRIPTORS_PER_PACKET * INT_SIZE);
const IOVEC_AT = msghdr.size;
const CONTROL_AT = IOVEC_AT + iovec.size;

/** A `struct msghdr` with one iovec and room for descriptors, for one socket at a time. */
export class MessageHeader {
  readonly #memory = NativeBuffer.alloc(CONTROL_AT + CONTROL_SIZE);
  readonly #bytes = this.#memory.bytes;

  get pointer(): bigint {
    return this.#memory.pointer;
  }

  /** To receive into buffer[offset, offset+length), with room for descriptors. */
  prepareReceive(buffer: NativeBuffer, offset: number, length: number): void {
    this.#prepare(buffer, offset, length, CONTROL_SIZE);
  }

  /** To send buffer[offset, offset+length) and the descriptors, which stay the caller's. Throws RangeError for too many. */
  prepareSend(buffer: NativeBuffer, offset: number, length: number, descriptors: readonly Descriptor[]): void {
    const count = descriptors.length;
    if (count > MAX_DESCRIPTORS_PER_PACKET) {
      throw new RangeError(`${count} descriptors in one packet: at most ${MAX_DESCRIPTORS_PER_PACKET} are sent`);
    }
    const size = cmsg.data + count * INT_SIZE;
    this.#prepare(buffer, offset, length, count === 0 ? 0 : align(size));
    if (count === 0) return;
    this.#bytes.writeBigUInt64LE(BigInt(size), CONTROL_AT + cmsg.length);
    this.#bytes.writeInt32LE(SOL_SOCKET, CONTROL_AT + cmsg.level);
    this.#bytes.writeInt32LE(SCM_RIGHTS, CONTROL_AT + cmsg.type);
    descriptors.forEach((descriptor, i) => {
      if (descriptor.closed) throw new RangeError("a closed descriptor cannot be sent");
      this.#bytes.writeInt32LE(descriptor.fd, CONTROL_AT + cmsg.data + i * INT_SIZE);
    });
  }

  /** After a receive: the packet was longer than the buffer, and the rest is lost. */
  get truncated(): boolean {
    return (this.#flags & MSG_TRUNC) !== 0;
  }

  /** After a receive: there were more descriptors than room, and the kernel has closed the rest. */
  get descriptorsTruncated(): boolean {
    return (this.#flags & MSG_CTRUNC) !== 0;
  }

  /** The numbers that a receive has opened. Whoever calls must own them at once. */
  receivedNumbers(): number[] {
    const numbers: number[] = [];
    const end = CONTROL_AT + Math.min(this.#number(msghdr.controlLength), CONTROL_SIZE);
    let at = CONTROL_AT;
    while (at + cmsg.data <= end) {
      const size = this.#number(at + cmsg.length);
      if (size < cmsg.data || at + size > end) break;
      if (
        this.#bytes.readInt32LE(at + cmsg.level) === SOL_SOCKET &&
        this.#bytes.readInt32LE(at + cmsg.type) === SCM_RIGHTS
      ) {
        for (let data = at + cmsg.data; data + INT_SIZE <= at + size; data += INT_SIZE) {
          numbers.push(this.#bytes.readInt32LE(data));
        }
      }
      at += align(size);
    }
    return numbers;
  }

  get #flags(): number {
    return this.#bytes.readInt32LE(msghdr.flags);
  }

  #number(at: number): number {
    return Number(this.#bytes.readBigUInt64LE(at));
  }

  #prepare(buffer: NativeBuffer, offset: number, length: number, controlSize: number): void {
    buffer.check(offset, length);
    const { pointer } = this.#memory;
    this.#bytes.fill(0);
    this.#bytes.writeBigUInt64LE(pointer + BigInt(IOVEC_AT), msghdr.iov);
    this.#bytes.writeBigUInt64LE(1n, msghdr.iovLength);
    this.#bytes.writeBigUInt64LE(buffer.pointerAt(offset), IOVEC_AT + iovec.base);
    this.#bytes.writeBigUInt64LE(BigInt(length), IOVEC_AT + iovec.length);
    if (controlSize === 0) return;
    this.#bytes.writeBigUInt64LE(pointer + BigInt(CONTROL_AT), msghdr.control);
    this.#bytes.writeBigUInt64LE(BigInt(controlSize), msghdr.controlLength);
  }
}

/** CMSG_ALIGN */
function align(size: number): number {
  return Math.ceil(size / cmsg.align) * cmsg.align;
}
