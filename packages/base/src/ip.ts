import { isIP } from "node:net";

/**
 * Addresses are canonical strings everywhere above the system calls: IPv4 dotted, IPv6 as RFC 5952 writes it,
 * and an IPv4-mapped IPv6 address is its IPv4 address. Two equal addresses are equal strings.
 */
export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** 4 or 16 bytes of an address in any spelling, or undefined. IPv4-mapped IPv6 gives 4 bytes. */
export function ipToBytes(text: string): Uint8Array | undefined {
  return parseV4(text) ?? (isIP(text) === 6 ? unmap(parseV6(text)) : undefined);
}

/** The canonical string of 4 or 16 bytes; undefined for any other length. */
export function ipFromBytes(bytes: Uint8Array): string | undefined {
  const plain = unmap(bytes);
  if (plain.length === 4) return `${plain[0]}.${plain[1]}.${plain[2]}.${plain[3]}`;
  if (plain.length !== 16) return undefined;
  return formatV6(plain);
}

/** The canonical spelling of an address, or undefined when it is none. */
export function canonicalIp(text: string): string | undefined {
  const bytes = ipToBytes(text);
  return bytes === undefined ? undefined : ipFromBytes(bytes);
}

export function isIpv6(ip: string): boolean {
  return ip.includes(":");
}

export function isLoopback(ip: string): boolean {
  return ip === "::1" || ip.startsWith("127.");
}

export function isUnspecified(ip: string): boolean {
  return ip === "0.0.0.0" || ip === "::";
}

/** `10.0.0.1:80`, `[fd00::1]:80`. */
export function formatSocketAddress(address: SocketAddress): string {
  return isIpv6(address.ip) ? `[${address.ip}]:${address.port}` : `${address.ip}:${address.port}`;
}

/** Parses `ip:port` and `[v6]:port`; undefined when it is neither. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const colon = text.lastIndexOf(":");
  if (colon <= 0) return undefined;
  const port = parsePort(text.slice(colon + 1));
  let host = text.slice(0, colon);
  if (host.startsWith("[") && host.endsWith("]")) host = host.slice(1, -1);
  else if (host.includes(":")) return undefined;
  const ip = canonicalIp(host);
  return ip === undefined || port === undefined ? undefined : { ip, port };
}

/** A decimal port from 0 to 65535, or undefined. */
export function parsePort(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65535 ? port : undefined;
}

/** An address range. `bits` counts in the address's own family. */
export interface Cidr {
  readonly ip: string;
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** Parses `10.0.0.0/8`; a bare address is a range of one. Undefined when malformed. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  const bytes = ipToBytes(slash < 0 ? text : text.slice(0, slash));
  if (bytes === undefined) return undefined;
  if (slash < 0) return cidrOf(bytes, bytes.length * 8);
  const suffix = text.slice(slash + 1);
  return /^\d{1,3}$/.test(suffix) ? cidrOf(bytes, Number(suffix)) : undefined;
}

export function cidrOf(bytes: Uint8Array, bits: number): Cidr | undefined {
  const ip = ipFromBytes(bytes);
  if (ip === undefined || bits < 0 || bits > bytes.length * 8) return undefined;
  return { ip, bytes, bits };
}

export function cidrContains(cidr: Cidr, ip: string): boolean {
  const bytes = ipToBytes(ip);
  if (bytes === undefined || bytes.length !== cidr.bytes.length) return false;
  const whole = cidr.bits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== cidr.bytes[i]) return false;
  const rest = cidr.bits & 7;
  if (rest === 0) return true;
  const mask = 0xff & (0xff << (8 - rest));
  return ((bytes[whole] ?? 0) & mask) === ((cidr.bytes[whole] ?? 0) & mask);
}

/** `10.0.0.0/8`, with the address as it was given. */
export function formatCidr(cidr: Cidr): string {
  return `${cidr.ip}/${cidr.bits}`;
}

const DOT = 46;
const ZERO = 48;

/** As node's isIP has it: four decimal numbers without leading zeros. By hand, since it is done for every address there is. */
function parseV4(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let [octet, value, digits] = [0, 0, 0];
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? DOT : text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0 || octet > 3) return undefined;
      bytes[octet++] = value;
      value = digits = 0;
      continue;
    }
    const digit = code - ZERO;
    if (digit < 0 || digit > 9 || (digits > 0 && value === 0)) return undefined;
    value = value * 10 + digit;
    digits++;
    if (value > 255) return undefined;
  }
  return octet === 4 ? bytes : undefined;
}

function parseV6(text: string): Uint8Array {
  const zone = text.indexOf("%");
  let plain = zone < 0 ? text : text.slice(0, zone);
  const lastColon = plain.lastIndexOf(":");
  if (plain.includes(".")) {
    const v4 = plain
      .slice(lastColon + 1)
      .split(".", 4)
      .map(Number);
    const hex = (a = 0, b = 0) => ((a << 8) | b).toString(16);
    plain = `${plain.slice(0, lastColon + 1)}${hex(v4[0], v4[1])}:${hex(v4[2], v4[3])}`;
  }
  const [head = "", tail] = plain.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const out = new Uint8Array(16);
  const put = (group: string, index: number) => {
    const value = Number.parseInt(group, 16);
    out[index * 2] = value >> 8;
    out[index * 2 + 1] = value & 0xff;
  };
  front.forEach((group, i) => put(group, i));
  back.forEach((group, i) => put(group, 8 - back.length + i));
  return out;
}

function unmap(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 16 || bytes[10] !== 0xff || bytes[11] !== 0xff) return bytes;
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return bytes;
  return bytes.subarray(12);
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first, if equal) as `::`. */
function formatV6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
    i = Math.max(end, i + 1);
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}
