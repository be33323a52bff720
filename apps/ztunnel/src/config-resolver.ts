import { canonicalIp } from "@tulle/base";

/** What ztunnel's own /etc/resolv.conf says: names that the mesh does not know are asked there. See resolv.conf(5). */
export interface ResolverConfig {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly ndots: number;
  readonly timeoutMs: number;
  readonly attempts: number;
}

/** Defaults and caps of resolv.conf(5). */
const DEFAULT_NDOTS = 1;
const MAX_NDOTS = 15;
const DEFAULT_TIMEOUT_S = 5;
const MAX_TIMEOUT_S = 30;
const DEFAULT_ATTEMPTS = 2;
const MAX_ATTEMPTS = 5;
const MAX_NAMESERVERS = 3;
/** Lines of a hosts file; a larger one is not a hosts file. */
const MAX_HOSTS = 10_000;

export function parseResolvConf(text: string): ResolverConfig {
  const nameservers: string[] = [];
  let search: readonly string[] = [];
  let options = { ndots: DEFAULT_NDOTS, timeout: DEFAULT_TIMEOUT_S, attempts: DEFAULT_ATTEMPTS };
  for (const line of text.split("\n")) {
    const [keyword, ...values] = line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/);
    if (keyword === "nameserver" && nameservers.length < MAX_NAMESERVERS) {
      const ip = canonicalIp(values[0] ?? "");
      if (ip !== undefined) nameservers.push(ip);
    } else if (keyword === "search" || keyword === "domain") {
      search = values.map((name) => name.replace(/\.$/, "").toLowerCase()).filter((name) => name !== "");
    } else if (keyword === "options") {
      options = {
        ndots: option(values, "ndots", MAX_NDOTS) ?? options.ndots,
        timeout: option(values, "timeout", MAX_TIMEOUT_S) ?? options.timeout,
        attempts: option(values, "attempts", MAX_ATTEMPTS) ?? options.attempts,
      };
    }
  }
  return {
    nameservers,
    search,
    ndots: options.ndots,
    timeoutMs: Math.max(1, options.timeout) * 1000,
    attempts: Math.max(1, options.attempts),
  };
}

/** Name (lower case) → addresses, in the order of the file. See hosts(5). */
export function parseHosts(text: string): ReadonlyMap<string, readonly string[]> {
  const hosts = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [address = "", ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    const ip = canonicalIp(address);
    if (ip === undefined) continue;
    for (const name of names) {
      const key = name.toLowerCase();
      const known = hosts.get(key);
      if (known !== undefined) known.push(ip);
      else if (hosts.size < MAX_HOSTS) hosts.set(key, [ip]);
    }
  }
  return hosts;
}

function option(values: readonly string[], name: string, max: number): number | undefined {
  const value = values.find((text) => text.startsWith(`${name}:`))?.slice(name.length + 1);
  return value !== undefined && /^\d{1,9}$/.test(value) ? Math.min(Number(value), max) : undefined;
}
