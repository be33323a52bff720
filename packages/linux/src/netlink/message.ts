/** Netlink messages as bytes (linux/netlink.h, rtnetlink(7)): a header, a fixed structure, then attributes. */

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  /** What follows the header. */
  readonly payload: Buffer;
}

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
/** `struct nlmsghdr`. */
export const HEADER_SIZE = 16;
/** Messages and attributes are padded to this. */
const ALIGN = 4;
/** `struct nlattr`. */
const ATTRIBUTE_HEADER = 4;
/** The upper bits of an attribute's type are flags. */
const ATTRIBUTE_TYPE = 0x3fff;

export function encodeMessage(type: number, flags: number, sequence: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(align(HEADER_SIZE + payload.length));
  bytes.writeUInt32LE(HEADER_SIZE + payload.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags, 6);
  bytes.writeUInt32LE(sequence, 8);
  bytes.set(payload, HEADER_SIZE);
  return bytes;
}

/** The messages of one datagram. Throws RangeError when a length is out of bounds. */
export function decodeMessages(bytes: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + HEADER_SIZE <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < HEADER_SIZE || at + length > bytes.length) throw new RangeError("a netlink message is cut off");
    messages.push({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      payload: Buffer.from(bytes.subarray(at + HEADER_SIZE, at + length)),
    });
    at += align(length);
  }
  return messages;
}

export function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(align(ATTRIBUTE_HEADER + value.length));
  bytes.writeUInt16LE(ATTRIBUTE_HEADER + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, ATTRIBUTE_HEADER);
  return bytes;
}

export function attributeU32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return attribute(type, bytes);
}

/** Attributes behind the first `offset` bytes of a payload, by type; the last of a type counts. */
export function attributesOf(payload: Buffer, offset: number): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = align(offset); at + ATTRIBUTE_HEADER <= payload.length; ) {
    const length = payload.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER || at + length > payload.length) break;
    found.set(payload.readUInt16LE(at + 2) & ATTRIBUTE_TYPE, payload.subarray(at + ATTRIBUTE_HEADER, at + length));
    at += align(length);
  }
  return found;
}

export function u32(value: Buffer | undefined): number | undefined {
  return value !== undefined && value.length >= 4 ? value.readUInt32LE(0) : undefined;
}

function align(length: number): number {
  return (length + ALIGN - 1) & ~(ALIGN - 1);
}
