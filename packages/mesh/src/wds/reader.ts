import { ipFromBytes, MeshError } from "@tulle/base";
import type { wds } from "@tulle/api";
import type { GatewayAddress } from "../model.ts";

/** A resource that cannot be taken in; the message is the reason in the NACK. */
export function rejected(reason: string): MeshError {
  return new MeshError(reason, { code: "RESOURCE_REJECTED", side: "upstream" });
}

export type Decoded<T> =
  | { readonly ok: true; readonly value: T }
  /** For the NACK and the log. */
  | { readonly ok: false; readonly reason: string };

export function decoded<T>(read: () => T): Decoded<T> {
  try {
    return { ok: true, value: read() };
  } catch (error) {
    if (error instanceof Error) return { ok: false, reason: error.message };
    throw error;
  }
}

/** The name of an enum value; numbers that this build does not know are rejected. */
export function fromEnum<T>(names: ReadonlyMap<number, T>, value: number, field: string): T {
  const name = names.get(value);
  if (name === undefined) throw rejected(`unknown ${field}: ${value}`);
  return name;
}

export function readIp(bytes: Uint8Array, field: string): string {
  const ip = bytes.length === 4 || bytes.length === 16 ? ipFromBytes(bytes) : undefined;
  if (ip === undefined) throw rejected(`${field} of ${bytes.length} bytes, expected 4 or 16`);
  return ip;
}

/** A prefix length on an IPv4-mapped IPv6 address counts from the IPv4 part. */
export function readRange(bytes: Uint8Array, length: number, field: string): { bytes: Uint8Array; bits: number } {
  const ip = readIp(bytes, field);
  const mapped = bytes.length === 16 && !ip.includes(":");
  const plain = mapped ? bytes.slice(12) : Uint8Array.from(bytes);
  const bits = mapped ? length - 96 : length;
  if (bits < 0 || bits > plain.length * 8) throw rejected(`${field} ${ip}/${length} has no valid prefix length`);
  return { bytes: plain, bits };
}

export function readPort(value: number, field: string): number {
  if (value > 65535) throw rejected(`${field} ${value} is no port`);
  return value;
}

export function readGateway(gateway: wds.GatewayAddress, field: string): GatewayAddress {
  const hboneMtlsPort = readPort(gateway.hboneMtlsPort, field);
  switch (gateway.destination.case) {
    case "hostname": {
      const { namespace, hostname } = gateway.destination.value;
      return { destination: { kind: "hostname", namespace, hostname }, hboneMtlsPort };
    }
    case "address": {
      const { network, address } = gateway.destination.value;
      return { destination: { kind: "address", network, ip: readIp(address, field) }, hboneMtlsPort };
    }
    default:
      throw rejected(`${field} without a destination`);
  }
}
