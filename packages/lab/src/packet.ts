import { ipFromBytes, type SocketAddress } from "@tulle/base";
import type { CapturedFrame } from "./pcap.ts";

/** A TCP or UDP packet, decoded as far as tests ask about it. */
export interface Packet {
  readonly timeMs: number;
  readonly protocol: "tcp" | "udp";
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** Of TCP; all false for UDP. */
  readonly flags: TcpFlags;
  readonly payload: Uint8Array;
}

export interface TcpFlags {
  readonly syn: boolean;
  readonly ack: boolean;
  readonly fin: boolean;
  readonly rst: boolean;
}

const LINK_ETHERNET = 1;
const LINK_COOKED_V2 = 276;
const ETHERNET_HEADER = 14;
const COOKED_V2_HEADER = 20;
const TYPE_IPV4 = 0x0800;
const TYPE_IPV6 = 0x86dd;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;
const IPV6_HEADER = 40;
const UDP_HEADER = 8;

/** Undefined for anything but whole TCP and UDP over IPv4 or IPv6 (without extension headers, which veth traffic does not have). */
export function decodePacket(frame: CapturedFrame): Packet | undefined {
  const bytes = Buffer.from(frame.bytes.buffer, frame.bytes.byteOffset, frame.bytes.length);
  try {
    const network = networkOf(frame.linkType, bytes);
    return network === undefined ? undefined : decodeTransport(network, frame.timeMs);
  } catch (error) {
    // Cut off in the middle of a header.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

interface Network {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly body: Buffer;
}

function networkOf(linkType: number, bytes: Buffer): Network | undefined {
  let type: number;
  let packet: Buffer;
  if (linkType === LINK_ETHERNET) {
    type = bytes.readUInt16BE(12);
    packet = bytes.subarray(ETHERNET_HEADER);
  } else if (linkType === LINK_COOKED_V2) {
    type = bytes.readUInt16BE(0);
    packet = bytes.subarray(COOKED_V2_HEADER);
  } else return undefined;

  if (type === TYPE_IPV4) {
    const headerLength = (packet.readUInt8(0) & 0x0f) * 4;
    // Ethernet pads short frames: the packet's own length tells where it ends.
    const length = packet.readUInt16BE(2);
    return {
      source: address(packet.subarray(12, 16)),
      destination: address(packet.subarray(16, 20)),
      protocol: packet.readUInt8(9),
      // Segments that the sender leaves for the device to cut have length 0.
      body: packet.subarray(headerLength, length === 0 ? undefined : length),
    };
  }
  if (type === TYPE_IPV6) {
    const length = packet.readUInt16BE(4);
    return {
      source: address(packet.subarray(8, 24)),
      destination: address(packet.subarray(24, 40)),
      protocol: packet.readUInt8(6),
      body: packet.subarray(IPV6_HEADER, length === 0 ? undefined : IPV6_HEADER + length),
    };
  }
  return undefined;
}

function decodeTransport({ source, destination, protocol, body }: Network, timeMs: number): Packet | undefined {
  if (protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) return undefined;
  const tcp = protocol === PROTOCOL_TCP;
  const bits = tcp ? body.readUInt8(13) : 0;
  return {
    timeMs,
    protocol: tcp ? "tcp" : "udp",
    source: { ip: source, port: body.readUInt16BE(0) },
    destination: { ip: destination, port: body.readUInt16BE(2) },
    flags: { fin: (bits & 1) !== 0, syn: (bits & 2) !== 0, rst: (bits & 4) !== 0, ack: (bits & 16) !== 0 },
    payload: body.subarray(tcp ? (body.readUInt8(12) >> 4) * 4 : UDP_HEADER),
  };
}

function address(bytes: Uint8Array): string {
  const text = ipFromBytes(bytes);
  if (text === undefined) throw new RangeError("an address is cut off");
  return text;
}
