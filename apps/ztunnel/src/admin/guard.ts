import type { IncomingMessage } from "node:http";
import { isLocalHost } from "@tulle/base";

/**
 * Keeps web pages away from the admin port. A page cannot reach a local port under its own name (DNS rebinding) if only
 * local names are answered, and a request that a browser sends on a page's behalf carries an Origin.
 */

/** Why the request is refused, or undefined. */
export function refusal(request: Pick<IncomingMessage, "headers" | "rawHeaders" | "url">): string | undefined {
  const hosts = request.rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === "host").length;
  const { host, origin } = request.headers;
  if (hosts !== 1 || host === undefined) return "a request needs exactly one Host header";
  if (!isLocalHost(host)) {
    return `Host "${printable(host)}" is neither localhost nor an IP address; this port answers to nothing else, so that web pages cannot use it through a name of their own`;
  }
  if (origin !== undefined) {
    return `requests with an Origin ("${printable(origin)}") are not answered, because they come from web pages`;
  }
  if (!request.url?.startsWith("/")) return "the request target must be a path";
  return undefined;
}

const MAX_SHOWN = 100;

function printable(text: string): string {
  return text.slice(0, MAX_SHOWN).replaceAll(/[^ -~]/g, "?");
}
