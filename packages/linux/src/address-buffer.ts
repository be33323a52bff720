import { ipFromBytes, ipToBytes, type SocketAddress } from "@tulle/base";
import { AF_INET, AF_INET6 } from "./constants.ts";
import { sockaddrLayout as layout } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** What stands for "the kernel no longer knows". */
export const NO_ADDRESS: SocketAddress = { ip: "", port: 0 };

/** ::ffff:0:0/96 as the third word of an address in memory order. */
const MAPPED_WORD = -0x10000;

/**
 * A `struct sockaddr` with its length beside it, for the calls that take or give one. `load` turns what a call has given
 * into numbers without allocating: an address is four words in memory order (IPv4 as IPv4-mapped IPv6) and a port.
 */
export class AddressBuffer {
  readonly memory = NativeBuffer.alloc(layout.maxSize);
  /** `socklen_t`: in: room, out: what the call has filled. */
  readonly lengthCell = NativeBuffer.alloc(4);
  a = 0;
  b = 0;
  c = 0;
  d = 0;
  port = 0;

  readonly #bytes = this.memory.bytes;
  readonly #words = new Int32Array(this.#bytes.buffer, this.#bytes.byteOffset, layout.maxSize >> 2);
  readonly #length = new Uint32Array(this.lengthCell.bytes.buffer, this.lengthCell.bytes.byteOffset, 1);

  /** Before a call that fills the buffer. */
  prepare(): void {
    this.#length[0] = layout.maxSize;
    this.#bytes[layout.family] = 0;
  }

  /** AF_INET, AF_INET6, or what else the call has written. */
  get family(): number {
    return (this.#bytes[layout.family] as number) | ((this.#bytes[layout.family + 1] as number) << 8);
  }

  /** Reads what the call has written into a, b, c, d and port. False when it is not an IP address. */
  load(): boolean {
    const words = this.#words;
    const bytes = this.#bytes;
    this.port = ((bytes[layout.port] as number) << 8) | (bytes[layout.port + 1] as number);
    const family = this.family;
    if (family === AF_INET) {
      this.a = 0;
      this.b = 0;
      this.c = MAPPED_WORD;
      this.d = words[layout.v4.address >> 2] as number;
      return true;
    }
    const first = layout.v6.address >> 2;
    this.a = words[first] as number;
    this.b = words[first + 1] as number;
    this.c = words[first + 2] as number;
    this.d = words[first + 3] as number;
    return family === AF_INET6;
  }

  /** What the call has written, as a canonical address; NO_ADDRESS when it is not an IP address. */
  decode(): SocketAddress {
    return this.load() ? { ip: ipFromWords(this.a, this.b, this.c, this.d), port: this.port } : NO_ADDRESS;
  }

  /**
   * Writes an address; returns its length, or 0 when `ip` is none. An IPv4 address for an IPv6 socket (`family` AF_INET6)
   * is written IPv4-mapped.
   */
  encode(ip: string, port: number, family?: number): number {
    const address = ipToBytes(ip);
    if (address === undefined || !Number.isInteger(port) || port < 0 || port > 0xffff) return 0;
    const bytes = this.#bytes;
    const v6 = address.length === 16 || family === AF_INET6;
    const size = v6 ? layout.v6.size : layout.v4.size;
    bytes.fill(0, 0, size);
    bytes[layout.family] = v6 ? AF_INET6 : AF_INET;
    bytes[layout.port] = port >> 8;
    bytes[layout.port + 1] = port & 0xff;
    if (!v6) bytes.set(address, layout.v4.address);
    else if (address.length === 16) bytes.set(address, layout.v6.address);
    else {
      bytes.fill(0xff, layout.v6.address + 10, layout.v6.address + 12);
      bytes.set(address, layout.v6.address + 12);
    }
    return size;
  }
}

/** The family of a canonical address: AF_INET6 when it has a colon. */
export function familyOf(ip: string): number {
  return ip.includes(":") ? AF_INET6 : AF_INET;
}

/** Whether four words in memory order are an IPv4-mapped address. */
export function isMappedV4(a: number, b: number, c: number): boolean {
  return a === 0 && b === 0 && c === MAPPED_WORD;
}

/** The canonical string of an address that `AddressBuffer.load` has read. */
export function ipFromWords(a: number, b: number, c: number, d: number): string {
  if (isMappedV4(a, b, c)) return `${d & 0xff}.${(d >>> 8) & 0xff}.${(d >>> 16) & 0xff}.${d >>> 24}`;
  const words = Int32Array.of(a, b, c, d);
  return ipFromBytes(new Uint8Array(words.buffer)) ?? "";
}
