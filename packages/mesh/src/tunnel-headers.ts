import { formatSocketAddress, type Random, type SocketAddress } from "@tulle/base";
import type { Workload, WorkloadType } from "./model.ts";

/**
 * What a `baggage` header says of a workload. It is the peer's own word: for labels, never for a decision
 * (spec: l4-ztunnel §2.2, §4.1).
 */
export interface Baggage {
  readonly clusterName: string | undefined;
  readonly namespace: string | undefined;
  readonly workloadName: string | undefined;
  readonly workloadType: WorkloadType | undefined;
  /** Canonical name and revision. */
  readonly serviceName: string | undefined;
  readonly serviceVersion: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
}

/** Longer values are ignored: no name in Kubernetes is longer, in characters. */
const MAX_VALUE_LENGTH = 253;

/** Characters of a header value that need no escape (W3C baggage, section 3.3.1.3). */
const PLAIN = /^[!#$&-+\--:<-[\]-~]*$/;

const WORKLOAD_TYPES: readonly WorkloadType[] = ["deployment", "cronjob", "pod", "job"];

/** `k8s.cluster.name=…,k8s.namespace.name=…`: what is empty is left out. */
export function buildBaggage(workload: Workload): string {
  const { clusterId, namespace, workloadType, workloadName, canonicalName, canonicalRevision, locality } = workload;
  const fields = [
    ["k8s.cluster.name", clusterId],
    ["k8s.namespace.name", namespace],
    [`k8s.${workloadType}.name`, workloadName],
    ["service.name", canonicalName],
    ["service.version", canonicalRevision],
    ["cloud.region", locality.region],
    ["cloud.availability_zone", locality.zone],
  ] as const;
  return fields
    .filter(([, value]) => value !== "")
    .map(([key, value]) => `${key}=${PLAIN.test(value) ? value : encodeURIComponent(value.toWellFormed())}`)
    .join(",");
}

/** Reads every `baggage` header of a request; keys that mean nothing here and malformed parts are skipped. */
export function parseBaggage(headers: readonly string[]): Baggage {
  const found = new Map<string, string>();
  let workload: { readonly type: WorkloadType; readonly name: string } | undefined;
  for (const header of headers) {
    for (const part of header.split(",")) {
      const equals = part.indexOf("=");
      if (equals < 0) continue;
      const key = part.slice(0, equals).trim();
      const value = unescape(part.slice(equals + 1).trim());
      if (value === "" || value.length > MAX_VALUE_LENGTH) continue;
      const type = WORKLOAD_TYPES.find((candidate) => key === `k8s.${candidate}.name`);
      if (type === undefined) found.set(key, value);
      else workload = { type, name: value };
    }
  }
  return {
    clusterName: found.get("k8s.cluster.name"),
    namespace: found.get("k8s.namespace.name"),
    workloadName: workload?.name,
    workloadType: workload?.type,
    serviceName: found.get("service.name"),
    serviceVersion: found.get("service.version"),
    region: found.get("cloud.region"),
    zone: found.get("cloud.availability_zone"),
  };
}

/** `for="10.0.0.1:4321";host=<service>` (RFC 7239); `host` only if a service was addressed. */
export function buildForwarded(client: SocketAddress, host: string | undefined): string {
  const base = `for="${formatSocketAddress(client)}"`;
  return host === undefined ? base : `${base};host=${TOKEN.test(host) ? host : `"${host.replace(UNQUOTABLE, "")}"`}`;
}

/** The first `host` of the `forwarded` headers, lower-cased; undefined when there is none that could be a name. */
export function parseForwardedHost(headers: readonly string[]): string | undefined {
  for (const header of headers) {
    for (const [, name, quoted, token] of header.matchAll(PAIR)) {
      if (name?.toLowerCase() !== "host") continue;
      const host = (quoted ?? token ?? "").toLowerCase();
      if (host !== "" && host.length <= MAX_VALUE_LENGTH && HOST.test(host)) return host;
    }
  }
  return undefined;
}

/** `00-<32 hex>-<16 hex>-00`: an id that ties the log lines of both proxies together; nothing is traced. */
export function newTraceparent(random: Random): string {
  return `00-${hex(random, 32)}-${hex(random, 16)}-00`;
}

/** Version 00 of the W3C form with ids that are not zero; anything else is replaced by a new one. */
export function isTraceparent(value: string): boolean {
  return value.length === 55 && TRACEPARENT.test(value);
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const UNQUOTABLE = /[^\x20-\x21\x23-\x5b\x5d-\x7e]/g;
const PAIR = /(?:^|[;,])\s*([A-Za-z]+)=(?:"([^"\\]*)"|([^";,\s]*))/g;
const HOST = /^[a-z0-9*._:[\]-]+$/;
const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;
const HEX_PER_DRAW = 4;

/** Never all zeros: that is no id. */
function hex(random: Random, digits: number): string {
  let text = "";
  while (text.length < digits) {
    const value = Math.floor(random() * 16 ** HEX_PER_DRAW);
    text += value.toString(16).padStart(HEX_PER_DRAW, "0");
  }
  return /[1-9a-f]/.test(text) ? text : `${text.slice(1)}1`;
}

function unescape(value: string): string {
  if (!value.includes("%")) return value;
  try {
    return decodeURIComponent(value);
  } catch {
    // Not escaped, but a percent sign as it is: other senders do not escape.
    return value;
  }
}
