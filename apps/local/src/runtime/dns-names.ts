import { isIpv6 } from "@tulle/base";
import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  type Packet,
  type Question,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
} from "dns-packet";
import { endpointsOf, hostnameOf } from "../objects/endpoints.ts";
import type { Objects } from "../objects/view.ts";

/** Names of services as cluster DNS answers them: pure, from a query's bytes to an answer's bytes. */

/** Host name (lower case) → its addresses of both families. */
export type NameTable = ReadonlyMap<string, readonly string[]>;

/** Cluster DNS of Kubernetes gives its answers this long, in seconds. Short, so that a changed service is seen soon. */
const TTL_SECONDS = 5;
/** What fits every resolver without EDNS (RFC 1035 §4.2.1). */
const MAX_ANSWER_BYTES = 512;
/** 16 bytes of IPv6 answer with its compressed name: this many fit 512 bytes with any question. */
const MAX_ADDRESSES = 8;
const OPCODE_QUERY = "QUERY";
const RCODE_MASK = 0xf;
const NO_ERROR = 0;
const SERVER_FAILURE = 2;
const NAME_ERROR = 3;
const NOT_IMPLEMENTED = 4;

/** Services with cluster IPs answer with those, headless ones with their ready pods. */
export function nameTable(objects: Objects, clusterDomain: string): NameTable {
  const table = new Map<string, readonly string[]>();
  for (const service of objects.services) {
    const vips = (service.spec.clusterIPs ?? []).filter((ip) => ip !== "None" && ip !== "");
    const [firstPort = { port: 1 }] = service.spec.ports ?? [];
    const addresses = vips.length > 0 ? vips : endpointsOf(service, firstPort, objects.pods).map(({ ip }) => ip);
    table.set(hostnameOf(service, clusterDomain).toLowerCase(), addresses);
  }
  return table;
}

/**
 * The answer to a datagram, or undefined when it deserves none. Names of the cluster are answered or do not exist; for all
 * others there is no way out of this mesh, which is a server failure (SERVFAIL), never "does not exist".
 */
export function answer(bytes: Uint8Array, names: NameTable, clusterDomain: string): Uint8Array | undefined {
  let query: Packet;
  try {
    query = decode(bytes);
  } catch {
    // Malformed: whoever sent it cannot be answered in a way that it would understand.
    return undefined;
  }
  const question = query.questions?.[0];
  if (query.type !== "query" || question === undefined || query.questions?.length !== 1) return undefined;
  if (query.opcode !== OPCODE_QUERY) return reply(query, question, NOT_IMPLEMENTED, []);
  const name = question.name.toLowerCase().replace(/\.$/, "");
  if (name !== clusterDomain && !name.endsWith(`.${clusterDomain}`)) return reply(query, question, SERVER_FAILURE, []);
  const addresses = names.get(name);
  if (addresses === undefined) return reply(query, question, NAME_ERROR, []);
  const wanted = addresses.filter((ip) => question.type === (isIpv6(ip) ? "AAAA" : "A")).slice(0, MAX_ADDRESSES);
  return reply(query, question, NO_ERROR, wanted);
}

function reply(query: Packet, question: Question, code: number, addresses: readonly string[]): Uint8Array {
  const answers = addresses.map(
    (data): Answer => ({ type: question.type, name: question.name, ttl: TTL_SECONDS, data }),
  );
  const wanted = (query.flags ?? 0) & RECURSION_DESIRED;
  const flags = AUTHORITATIVE_ANSWER | RECURSION_AVAILABLE | wanted | (code & RCODE_MASK);
  const id = query.id ?? 0;
  const full = encode({ id, type: "response", flags, questions: [question], answers });
  if (full.length <= MAX_ANSWER_BYTES) return full;
  return encode({ id, type: "response", flags, questions: [question], answers: answers.slice(0, 1) });
}
