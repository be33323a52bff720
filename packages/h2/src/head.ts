import type { HeaderField } from "./hpack-decoder.ts";

/** A request's header section (RFC 9113 §8.3.1). `fields` holds everything but the pseudo headers. */
export interface RequestHead {
  readonly method: string;
  /** Undefined for a classic CONNECT. */
  readonly scheme: string | undefined;
  /** As received, or the Host field's value; may be missing even in CONNECT: the handler decides what to answer. */
  readonly authority: string | undefined;
  /** Undefined for a classic CONNECT. */
  readonly path: string | undefined;
  /** `:protocol` of an extended CONNECT (RFC 8441). */
  readonly protocol: string | undefined;
  readonly fields: readonly HeaderField[];
  readonly contentLength: number | undefined;
}

/** A response's header section (RFC 9113 §8.3.2); interim responses (1xx) too. */
export interface ResponseHead {
  readonly status: number;
  readonly fields: readonly HeaderField[];
  readonly contentLength: number | undefined;
}

/** Why a header section is malformed (RFC 9113 §8.1.1): a stream error. */
export class Malformed {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*$/;
/** No NUL, CR or LF, no white space at the ends (RFC 9113 §8.2.1); other control characters are refused as well. */
const VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const NO_SPACE = /^[\x21-\x7e\x80-\xff]*$/;
/** Fields that belong to one HTTP/1 connection (RFC 9113 §8.2.2). */
const CONNECTION_SPECIFIC = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);
const REQUEST_PSEUDO = new Set([":method", ":scheme", ":authority", ":path", ":protocol"]);
const RESPONSE_PSEUDO = new Set([":status"]);

/** Checks and takes apart a request's section. `extendedConnect`: whether we have announced RFC 8441. */
export function parseRequest(section: readonly HeaderField[], extendedConnect: boolean): RequestHead | Malformed {
  const parts = split(section, REQUEST_PSEUDO);
  if (parts instanceof Malformed) return parts;
  const { pseudo, fields, contentLength, host } = parts;
  const method = pseudo.get(":method");
  const scheme = pseudo.get(":scheme");
  const path = pseudo.get(":path");
  const protocol = pseudo.get(":protocol");
  const authority = pseudo.get(":authority");
  if (method === undefined || !TOKEN.test(method)) return new Malformed(":method is missing or no token");
  if (protocol !== undefined && (method !== "CONNECT" || !extendedConnect))
    return new Malformed(":protocol is not allowed");
  if (method === "CONNECT" && protocol === undefined) {
    if (scheme !== undefined || path !== undefined) return new Malformed("CONNECT with :scheme or :path");
  } else {
    if (scheme === undefined || !SCHEME.test(scheme)) return new Malformed(":scheme is missing or wrong");
    if (path === undefined || !NO_SPACE.test(path)) return new Malformed(":path is missing or wrong");
    if (scheme === "http" || scheme === "https") {
      if (!path.startsWith("/") && !(path === "*" && method === "OPTIONS"))
        return new Malformed(":path is not absolute");
      if (authority?.includes("@")) return new Malformed(":authority holds user information");
    }
  }
  if (authority !== undefined && !NO_SPACE.test(authority)) return new Malformed(":authority is wrong");
  if (authority !== undefined && host !== undefined && authority.toLowerCase() !== host.toLowerCase()) {
    return new Malformed("host differs from :authority");
  }
  return { method, scheme, authority: authority ?? host, path, protocol, fields, contentLength };
}

/** Checks and takes apart a response's section. */
export function parseResponse(section: readonly HeaderField[]): ResponseHead | Malformed {
  const parts = split(section, RESPONSE_PSEUDO);
  if (parts instanceof Malformed) return parts;
  const text = parts.pseudo.get(":status");
  if (text === undefined || !/^[1-9][0-9][0-9]$/.test(text)) return new Malformed(":status is missing or wrong");
  const status = Number(text);
  if (status === 101) return new Malformed("status 101 does not exist in HTTP/2");
  return { status, fields: parts.fields, contentLength: parts.contentLength };
}

/** Checks a trailer section; undefined means that it is well-formed. */
export function checkTrailers(section: readonly HeaderField[]): Malformed | undefined {
  const parts = split(section, new Set());
  return parts instanceof Malformed ? parts : undefined;
}

interface Parts {
  readonly pseudo: ReadonlyMap<string, string>;
  readonly fields: readonly HeaderField[];
  readonly contentLength: number | undefined;
  readonly host: string | undefined;
}

function split(section: readonly HeaderField[], allowed: ReadonlySet<string>): Parts | Malformed {
  const pseudo = new Map<string, string>();
  const fields: HeaderField[] = [];
  let contentLength: number | undefined;
  let host: string | undefined;
  for (const field of section) {
    const [name, value] = field;
    if (!VALUE.test(value)) return new Malformed(`the value of ${printable(name)} holds a forbidden character`);
    if (name.charCodeAt(0) === 0x3a) {
      if (fields.length > 0) return new Malformed(`${printable(name)} stands behind a regular field`);
      if (!allowed.has(name)) return new Malformed(`pseudo header ${printable(name)} is not allowed here`);
      if (pseudo.has(name)) return new Malformed(`${name} stands there twice`);
      pseudo.set(name, value);
      continue;
    }
    if (!NAME.test(name)) return new Malformed(`field name ${printable(name)} is not lower-case or no token`);
    if (CONNECTION_SPECIFIC.has(name)) return new Malformed(`${name} does not belong in HTTP/2`);
    if (name === "te" && value !== "trailers") return new Malformed("te may only say trailers");
    if (name === "host") {
      if (host !== undefined) return new Malformed("host stands there twice");
      host = value;
    }
    if (name === "content-length") {
      const length = parseContentLength(value);
      if (length === undefined || (contentLength !== undefined && contentLength !== length)) {
        return new Malformed("content-length is wrong");
      }
      contentLength = length;
    }
    fields.push(field);
  }
  return { pseudo, fields, contentLength, host };
}

function parseContentLength(value: string): number | undefined {
  return /^[0-9]{1,15}$/.test(value) ? Number(value) : undefined;
}

/** For messages: no control characters, not endless. */
function printable(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
}
