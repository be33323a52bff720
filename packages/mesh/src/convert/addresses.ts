import { canonicalIp, type Cidr, cidrOf, ipToBytes, parseCidr } from "@tulle/base";
import type { CidrVip, Vip } from "../model.ts";

/** Addresses of one service in one network. */
export interface ServiceAddresses {
  readonly vips: readonly Vip[];
  readonly cidrVips: readonly CidrVip[];
}

/** Addresses and ranges, the latter without the bits that do not count. undefined: one of them cannot be read. */
export function parseAddresses(texts: readonly string[], network: string): ServiceAddresses | undefined {
  const vips = new Map<string, Vip>();
  const cidrVips = new Map<string, CidrVip>();
  for (const text of texts) {
    const ip = canonicalIp(text);
    const cidr = ip === undefined && text.includes("/") ? parseCidr(text) : undefined;
    if (ip !== undefined) vips.set(ip, { network, ip });
    else if (cidr === undefined) return undefined;
    // A range of one is an address.
    else if (cidr.bits === cidr.bytes.length * 8) vips.set(cidr.ip, { network, ip: cidr.ip });
    else {
      const masked = maskCidr(cidr);
      if (masked !== undefined) cidrVips.set(`${masked.ip}/${masked.bits}`, { network, cidr: masked });
    }
  }
  return { vips: [...vips.values()], cidrVips: [...cidrVips.values()] };
}

function maskCidr(cidr: Cidr): Cidr | undefined {
  const bytes = ipToBytes(cidr.ip);
  if (bytes === undefined) return undefined;
  const masked = Uint8Array.from(bytes, (byte, index) => {
    const kept = Math.min(8, Math.max(0, cidr.bits - index * 8));
    return byte & (0xff << (8 - kept));
  });
  return cidrOf(masked, cidr.bits);
}
