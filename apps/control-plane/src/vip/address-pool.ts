import { type Cidr, ipFromBytes, ipToBytes } from "@tulle/base";

/** A range of addresses that are handed out one after the other. */
export interface AddressPool {
  /** The next one from the cursor on that `isFree`, which then moves behind it; wraps once. Undefined: there is none. */
  next(isFree: (ip: string) => boolean, skip?: (ip: string) => string | undefined): string | undefined;
  has(ip: string): boolean;
  /** The cursor is behind it from now on, unless it was already. */
  passed(ip: string): void;
  /** How many there are to hand out. */
  readonly size: bigint;
}

/** Without the network's own address and, in IPv4, the broadcast address. */
export function createAddressPool(range: Cidr): AddressPool {
  const bits = range.bytes.length * 8;
  const hostBits = BigInt(bits - range.bits);
  const network = (toNumber(range.bytes) >> hostBits) << hostBits;
  const first = network + 1n;
  const last = network + (1n << hostBits) - 1n - (bits === 32 && hostBits > 1n ? 1n : 0n);
  let cursor = first;
  const has = (number: bigint) => number >= first && number <= last;
  const read = (ip: string) => {
    const bytes = ipToBytes(ip);
    return bytes !== undefined && bytes.length * 8 === bits ? toNumber(bytes) : undefined;
  };
  return {
    size: last < first ? 0n : last - first + 1n,
    has: (ip) => {
      const number = read(ip);
      return number !== undefined && has(number);
    },
    passed: (ip) => {
      const number = read(ip);
      if (number !== undefined && has(number) && number >= cursor) cursor = number + 1n;
    },
    next: (isFree, skip) => {
      const start = has(cursor) ? cursor : first;
      let wrapped = false;
      for (let at = start; ; ) {
        if (at > last) {
          if (wrapped) return undefined;
          wrapped = true;
          at = first;
        }
        if (wrapped && at >= start) return undefined;
        const ip = toText(at, bits);
        const behind = skip?.(ip);
        const over = behind === undefined ? undefined : read(behind);
        if (over !== undefined && over >= at) {
          at = over + 1n;
          continue;
        }
        if (isFree(ip)) {
          cursor = at + 1n;
          return ip;
        }
        at += 1n;
      }
    },
  };
}

/** The last address of a range. */
export function lastOf({ bytes, bits }: Cidr): string {
  const hostBits = BigInt(bytes.length * 8 - bits);
  return toText(toNumber(bytes) | ((1n << hostBits) - 1n), bytes.length * 8);
}

function toNumber(bytes: Uint8Array): bigint {
  return bytes.reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

function toText(number: bigint, bits: number): string {
  const bytes = new Uint8Array(bits / 8);
  for (let i = bytes.length - 1, rest = number; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return ipFromBytes(bytes) ?? "";
}
