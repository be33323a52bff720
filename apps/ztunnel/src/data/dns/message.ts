import { ipFromBytes, ipToBytes } from "@tulle/base";

/** The part of the DNS wire format (RFC 1035, EDNS RFC 6891) that the proxy needs: one question in, addresses out. */

export const TYPE_A = 1;
export const TYPE_CNAME = 5;
export const TYPE_AAAA = 28;
const TYPE_OPT = 41;
const CLASS_IN = 1;

export const RCODE_OK = 0;
export const RCODE_FORMAT_ERROR = 1;
export const RCODE_SERVER_FAILURE = 2;
export const RCODE_NOT_IMPLEMENTED = 4;

/** Largest UDP answer to a client without EDNS (RFC 1035 §4.2.1). */
export const MIN_UDP_PAYLOAD = 512;
export const HEADER_LENGTH = 12;

const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const EDNS_DO = 0x8000;

export interface Edns {
  readonly payload: number;
  readonly version: number;
  readonly dnssecOk: boolean;
}

export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  /** Lower case, without the final dot; "" is the root. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly edns: Edns | undefined;
  /** The question section as it was sent, to be repeated in the answer. */
  readonly question: Uint8Array;
}

export type ParsedQuery =
  | { readonly kind: "query"; readonly query: Query }
  /** Answer with this code. */
  | { readonly kind: "refuse"; readonly id: number; readonly code: number; readonly recursionDesired: boolean }
  /** Too short to answer at all. */
  | { readonly kind: "drop" };

/** Reads a query. Only opcode QUERY with one question is taken; a response is a format error. */
export function parseQuery(bytes: Uint8Array): ParsedQuery {
  if (bytes.length < HEADER_LENGTH) return { kind: "drop" };
  const view = viewOf(bytes);
  const id = view.getUint16(0);
  const flags = view.getUint16(2);
  const recursionDesired = (flags & FLAG_RECURSION_DESIRED) !== 0;
  const refuse = (code: number): ParsedQuery => ({ kind: "refuse", id, code, recursionDesired });
  if ((flags & FLAG_RESPONSE) !== 0) return refuse(RCODE_FORMAT_ERROR);
  if (((flags >> 11) & 0xf) !== 0) return refuse(RCODE_NOT_IMPLEMENTED);
  if (view.getUint16(4) !== 1) return refuse(RCODE_FORMAT_ERROR);
  const name = readName(bytes, HEADER_LENGTH);
  if (name === undefined || name.end + 4 > bytes.length) return refuse(RCODE_FORMAT_ERROR);
  const end = name.end + 4;
  const edns = findEdns(bytes, end, view.getUint16(6) + view.getUint16(8), view.getUint16(10));
  if (edns === "malformed") return refuse(RCODE_FORMAT_ERROR);
  return {
    kind: "query",
    query: {
      id,
      recursionDesired,
      name: name.name,
      type: view.getUint16(name.end),
      class: view.getUint16(name.end + 2),
      edns,
      question: bytes.slice(HEADER_LENGTH, end),
    },
  };
}

export interface Answer {
  readonly code: number;
  readonly authoritative: boolean;
  /** Addresses of the asked family. */
  readonly addresses: readonly string[];
  /** The addresses belong to this name, to which the asked one is an alias. */
  readonly cname: string | undefined;
  readonly ttlSeconds: number;
}

/** Writes an answer of at most `limit` bytes: what does not fit is left out and TC is set. */
export function encodeAnswer(query: Query, answer: Answer, limit: number): Uint8Array {
  const room = Math.max(limit, MIN_UDP_PAYLOAD);
  const opt = query.edns === undefined ? new Uint8Array(0) : encodeOpt(query.edns);
  const records: Uint8Array[] = [];
  let used = HEADER_LENGTH + query.question.length + opt.length;
  let truncated = false;
  for (const record of answerRecords(answer)) {
    if (used + record.length > room) {
      truncated = true;
      break;
    }
    records.push(record);
    used += record.length;
  }
  const out = new Uint8Array(used);
  writeHeader(out, query, answer, truncated, records.length, opt.length > 0 ? 1 : 0);
  let offset = HEADER_LENGTH;
  for (const part of [query.question, ...records, opt]) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** An answer without records to something that could not be parsed as a query. */
export function encodeRefusal(id: number, code: number, recursionDesired: boolean): Uint8Array {
  const out = new Uint8Array(HEADER_LENGTH);
  const view = viewOf(out);
  view.setUint16(0, id);
  const wanted = recursionDesired ? FLAG_RECURSION_DESIRED : 0;
  view.setUint16(2, FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | wanted | code);
  return out;
}

/** The size that an answer over UDP may have for this client. */
export function udpLimit(query: Query): number {
  return Math.max(query.edns?.payload ?? MIN_UDP_PAYLOAD, MIN_UDP_PAYLOAD);
}

/** A name of at most 255 bytes in wire form; undefined when a label is empty or longer than 63 bytes. */
export function encodeName(name: string): Uint8Array | undefined {
  const labels = name === "" ? [] : name.split(".");
  const out: number[] = [];
  for (const label of labels) {
    const bytes = Buffer.from(label, "latin1");
    if (bytes.length === 0 || bytes.length > 63) return undefined;
    out.push(bytes.length, ...bytes);
  }
  out.push(0);
  return out.length > 255 ? undefined : Uint8Array.from(out);
}

/** Reads a name, following compression backwards only; undefined when malformed. `end` is where it ends in place. */
export function readName(
  bytes: Uint8Array,
  start: number,
): { readonly name: string; readonly end: number } | undefined {
  const labels: string[] = [];
  let offset = start;
  let end = -1;
  let floor = start;
  let length = 0;
  for (;;) {
    const size = bytes[offset];
    if (size === undefined) return undefined;
    if (size === 0) return { name: labels.join(".").toLowerCase(), end: end < 0 ? offset + 1 : end };
    if ((size & 0xc0) === 0xc0) {
      const target = ((size & 0x3f) << 8) | (bytes[offset + 1] ?? 0);
      // Only ever backwards: a loop would have to go forward somewhere.
      if (offset + 1 >= bytes.length || target >= floor) return undefined;
      if (end < 0) end = offset + 2;
      floor = target;
      offset = target;
      continue;
    }
    if ((size & 0xc0) !== 0 || offset + 1 + size > bytes.length) return undefined;
    length += size + 1;
    if (length > 254) return undefined;
    labels.push(Buffer.from(bytes.subarray(offset + 1, offset + 1 + size)).toString("latin1"));
    offset += 1 + size;
  }
}

export interface ResponseSummary {
  readonly id: number;
  readonly code: number;
  readonly truncated: boolean;
  /** How long it may be cached, in seconds; undefined: not at all. */
  readonly ttlSeconds: number | undefined;
  /** Where the TTL fields are, to be counted down when served from the cache. */
  readonly ttlOffsets: readonly number[];
  readonly answers: number;
  readonly addresses: readonly string[];
}

/** What the forwarder needs to know of an upstream's response; undefined when it is malformed. */
export function summarizeResponse(bytes: Uint8Array): ResponseSummary | undefined {
  if (bytes.length < HEADER_LENGTH) return undefined;
  const view = viewOf(bytes);
  const flags = view.getUint16(2);
  if ((flags & FLAG_RESPONSE) === 0) return undefined;
  let offset = HEADER_LENGTH;
  for (let i = 0; i < view.getUint16(4); i++) {
    const name = readName(bytes, offset);
    if (name === undefined || name.end + 4 > bytes.length) return undefined;
    offset = name.end + 4;
  }
  const answers = view.getUint16(6);
  const total = answers + view.getUint16(8) + view.getUint16(10);
  const ttlOffsets: number[] = [];
  const addresses: string[] = [];
  let ttl: number | undefined;
  for (let i = 0; i < total; i++) {
    const record = readRecord(bytes, offset);
    if (record === undefined) return undefined;
    offset = record.end;
    if (record.type === TYPE_OPT) continue;
    ttlOffsets.push(record.ttlOffset);
    ttl = Math.min(ttl ?? record.ttl, record.ttl);
    if (i < answers && (record.type === TYPE_A || record.type === TYPE_AAAA)) {
      const ip = ipFromBytes(bytes.subarray(record.dataOffset, record.end));
      if (ip !== undefined) addresses.push(ip);
    }
  }
  return {
    id: view.getUint16(0),
    code: flags & 0xf,
    truncated: (flags & FLAG_TRUNCATED) !== 0,
    ttlSeconds: ttl,
    ttlOffsets,
    answers,
    addresses,
  };
}

/** A copy of a cached response for another client: its id, its spelling of the question, and TTLs `ageSeconds` older. */
export function reissue(
  response: Uint8Array,
  query: Query,
  ttlOffsets: readonly number[],
  ageSeconds: number,
): Uint8Array {
  const out = Uint8Array.from(response);
  const view = viewOf(out);
  view.setUint16(0, query.id);
  if (HEADER_LENGTH + query.question.length <= out.length) out.set(query.question, HEADER_LENGTH);
  for (const offset of ttlOffsets) view.setUint32(offset, Math.max(0, view.getUint32(offset) - ageSeconds));
  return out;
}

/** A plain recursive query for `query`'s name and type under another id. */
export function encodeQuery(query: Query, id: number): Uint8Array {
  const opt = query.edns === undefined ? new Uint8Array(0) : encodeOpt(query.edns);
  const out = new Uint8Array(HEADER_LENGTH + query.question.length + opt.length);
  const view = viewOf(out);
  view.setUint16(0, id);
  view.setUint16(2, FLAG_RECURSION_DESIRED);
  view.setUint16(4, 1);
  view.setUint16(10, opt.length > 0 ? 1 : 0);
  out.set(query.question, HEADER_LENGTH);
  out.set(opt, HEADER_LENGTH + query.question.length);
  return out;
}

function writeHeader(
  out: Uint8Array,
  query: Query,
  answer: Answer,
  truncated: boolean,
  answers: number,
  additional: number,
) {
  const view = viewOf(out);
  let flags = FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | answer.code;
  if (query.recursionDesired) flags |= FLAG_RECURSION_DESIRED;
  if (answer.authoritative) flags |= FLAG_AUTHORITATIVE;
  if (truncated) flags |= FLAG_TRUNCATED;
  view.setUint16(0, query.id);
  view.setUint16(2, flags);
  view.setUint16(4, 1);
  view.setUint16(6, answers);
  view.setUint16(10, additional);
}

/** Records whose owner is the question's name (a pointer to offset 12) or, after a CNAME, the canonical name. */
function answerRecords(answer: Answer): Uint8Array[] {
  const asked = Uint8Array.of(0xc0, HEADER_LENGTH);
  const canonical = answer.cname === undefined ? undefined : encodeName(answer.cname);
  const records: Uint8Array[] = [];
  if (canonical !== undefined) records.push(encodeRecord(asked, TYPE_CNAME, answer.ttlSeconds, canonical));
  for (const ip of answer.addresses) {
    const data = ipToBytes(ip);
    if (data === undefined) continue;
    records.push(encodeRecord(canonical ?? asked, data.length === 4 ? TYPE_A : TYPE_AAAA, answer.ttlSeconds, data));
  }
  return records;
}

function encodeRecord(owner: Uint8Array, type: number, ttlSeconds: number, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(owner.length + 10 + data.length);
  out.set(owner);
  const view = viewOf(out);
  view.setUint16(owner.length, type);
  view.setUint16(owner.length + 2, CLASS_IN);
  view.setUint32(owner.length + 4, ttlSeconds);
  view.setUint16(owner.length + 8, data.length);
  out.set(data, owner.length + 10);
  return out;
}

function encodeOpt(edns: Edns): Uint8Array {
  const out = new Uint8Array(11);
  const view = viewOf(out);
  view.setUint16(1, TYPE_OPT);
  view.setUint16(3, Math.max(edns.payload, MIN_UDP_PAYLOAD));
  out[6] = edns.version;
  view.setUint16(7, edns.dnssecOk ? EDNS_DO : 0);
  return out;
}

function findEdns(bytes: Uint8Array, start: number, skip: number, additional: number): Edns | undefined | "malformed" {
  let offset = start;
  let edns: Edns | undefined;
  for (let i = 0; i < skip + additional; i++) {
    const record = readRecord(bytes, offset);
    if (record === undefined) return "malformed";
    offset = record.end;
    if (record.type !== TYPE_OPT || i < skip) continue;
    if (edns !== undefined) return "malformed";
    edns = { payload: record.class, version: (record.ttl >>> 16) & 0xff, dnssecOk: (record.ttl & EDNS_DO) !== 0 };
  }
  return edns;
}

function readRecord(bytes: Uint8Array, start: number) {
  const name = readName(bytes, start);
  if (name === undefined || name.end + 10 > bytes.length) return undefined;
  const view = viewOf(bytes);
  const dataOffset = name.end + 10;
  const end = dataOffset + view.getUint16(name.end + 8);
  if (end > bytes.length) return undefined;
  return {
    type: view.getUint16(name.end),
    class: view.getUint16(name.end + 2),
    ttl: view.getUint32(name.end + 4),
    ttlOffset: name.end + 4,
    dataOffset,
    end,
  };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
