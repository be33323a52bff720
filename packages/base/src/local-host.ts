import { isIP } from "node:net";
import { parsePort } from "./ip.ts";

/**
 * Whether a Host header is `localhost`, an IPv4 address, or an IPv6 address in brackets, with or without a port (RFC 9110
 * §7.2). A web page cannot reach a local port under its own name (DNS rebinding) if only these are answered.
 */
export function isLocalHost(host: string): boolean {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/.exec(host) ?? [];
  if (port !== undefined && parsePort(port) === undefined) return false;
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  return plain !== undefined && (plain.toLowerCase() === "localhost" || isIP(plain) === 4);
}
