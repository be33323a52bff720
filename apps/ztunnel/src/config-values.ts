import { type Cidr, parseCidr, parsePort } from "@tulle/base";

/** Environment variables as typed values. What is wrong is collected, so that a user sees all of it at once. */
export class EnvironmentReader {
  readonly problems: string[] = [];
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  problem(text: string): void {
    this.problems.push(text);
  }

  /** As it is set, "" included. */
  raw(name: string): string | undefined {
    return this.#env[name];
  }

  /** An empty variable counts as unset: charts set many of them so. */
  text(name: string): string | undefined {
    const value = this.#env[name];
    return value === "" ? undefined : value;
  }

  boolean<T>(name: string, fallback: T): boolean | T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    if (value === "true" || value === "false") return value === "true";
    return this.#wrong(name, value, "true or false", fallback);
  }

  integer<T>(name: string, fallback: T, range: { readonly min: number; readonly max: number }): number | T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (number >= range.min && number <= range.max) return number;
    return this.#wrong(name, value, `a whole number from ${range.min} to ${range.max}`, fallback);
  }

  /** Milliseconds. */
  duration<T>(name: string, fallback: T): number | T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    return parseDuration(value) ?? this.#wrong(name, value, "a duration such as 5s or 1m30s", fallback);
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    return values.find((known) => known === value) ?? this.#wrong(name, value, values.join(" or "), fallback);
  }

  cidrs(name: string): readonly Cidr[] {
    const parts = (this.text(name) ?? "").split(",").map((part) => part.trim());
    return parts.flatMap((part) => {
      if (part === "") return [];
      const cidr = parseCidr(part);
      return cidr === undefined ? this.#wrong(name, part, "address ranges such as 10.0.0.0/8,fd00::/8", []) : [cidr];
    });
  }

  /** `localhost:port` or `ip:port`; the ip is undefined for localhost. */
  localAddress(name: string, value: string | undefined, fallback: LocalAddress): LocalAddress {
    if (value === undefined || value === "") return fallback;
    const colon = value.lastIndexOf(":");
    const port = parsePort(value.slice(colon + 1));
    const host = value.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, "$1");
    if (port !== undefined && host === "localhost") return { ip: undefined, port };
    const ip = parseCidr(host);
    if (port !== undefined && ip !== undefined && !host.includes("/")) return { ip: ip.ip, port };
    return this.#wrong(name, value, "localhost:port or ip:port", fallback);
  }

  /** Every variable with this prefix: [rest of the name, value]. */
  prefixed(prefix: string): readonly (readonly [name: string, value: string])[] {
    return Object.entries(this.#env).flatMap(([name, value]) =>
      name.startsWith(prefix) && name.length > prefix.length && value !== undefined
        ? [[name.slice(prefix.length), value] as const]
        : [],
    );
  }

  #wrong<T>(name: string, value: string, expected: string, fallback: T): T {
    this.problem(`${name} is "${value}", but must be ${expected}`);
    return fallback;
  }
}

export interface LocalAddress {
  readonly ip: string | undefined;
  readonly port: number;
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds of `5s`, `1m30s`, `250ms`; a bare number counts seconds. Undefined when it is none of these. */
export function parseDuration(text: string): number | undefined {
  if (/^\d{1,12}(\.\d{1,9})?$/.test(text)) return Number(text) * 1000;
  if (!/^(\d{1,12}(\.\d{1,9})?(ns|us|µs|ms|s|m|h|d)\s?)+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, , unit] of text.matchAll(/(\d+(\.\d+)?)(ns|us|µs|ms|s|m|h|d)/g)) {
    total += Number(number) * (UNIT_MS[unit ?? ""] ?? Number.NaN);
  }
  return total;
}
