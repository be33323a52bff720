import { type Cidr, formatCidr, isIpv6, parseCidr, parsePort } from "@tulle/base";

/** Environment variables as typed values. What is wrong is collected, so that a user sees all of it at once. */
export class EnvironmentReader {
  readonly problems: string[] = [];
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
  }

  problem(text: string): void {
    this.problems.push(text);
  }

  /** An empty variable counts as unset: charts set many of them so. */
  text(name: string): string | undefined {
    const value = this.#env[name]?.trim();
    return value === "" ? undefined : value;
  }

  /** The parts of a comma list, without empty ones. */
  list(name: string): readonly string[] | undefined {
    const parts = this.text(name)?.split(",") ?? [];
    const kept = parts.map((part) => part.trim()).filter((part) => part !== "");
    return kept.length === 0 ? undefined : kept;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.text(name);
    if (value === undefined) return fallback;
    if (value === "true" || value === "false") return value === "true";
    return this.#wrong(name, value, "true or false", fallback);
  }

  /** 0: any free one. */
  port(name: string, fallback: number): number {
    const value = this.text(name);
    if (value === undefined) return fallback;
    if (value === "0") return 0;
    return parsePort(value) ?? this.#wrong(name, value, "a port", fallback);
  }

  integer(name: string, fallback: number, range: { readonly min: number; readonly max: number }): number {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= range.min && number <= range.max) return number;
    return this.#wrong(name, value, `a whole number from ${range.min} to ${range.max}`, fallback);
  }

  /** Milliseconds of a Go duration such as `24h0m0s`. */
  duration(name: string, fallbackMs: number, range: { readonly min: number; readonly max: number }): number {
    const value = this.text(name);
    if (value === undefined) return fallbackMs;
    const ms = parseGoDuration(value);
    if (ms !== undefined && ms >= range.min && ms <= range.max) return ms;
    const expected = `a duration such as 24h0m0s, from ${range.min / 1000} s to ${range.max / 1000} s`;
    return this.#wrong(name, value, expected, fallbackMs);
  }

  /** An address range of the same family as the fallback. */
  cidr(name: string, fallback: Cidr): Cidr {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const cidr = value.includes("/") ? parseCidr(value) : undefined;
    if (cidr !== undefined && isIpv6(cidr.ip) === isIpv6(fallback.ip)) return cidr;
    return this.#wrong(name, value, `an address range such as ${formatCidr(fallback)}`, fallback);
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    return values.find((known) => known === value) ?? this.#wrong(name, value, values.join(" or "), fallback);
  }

  #wrong<T>(name: string, value: string, expected: string, fallback: T): T {
    this.problem(`${name} is "${value}", but must be ${expected}`);
    return fallback;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** As Go reads durations (without signs and units below a millisecond); undefined when it is none. */
export function parseGoDuration(text: string): number | undefined {
  if (!/^(\d{1,9}(\.\d{1,6})?(ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(number) * (UNIT_MS[unit ?? ""] ?? Number.NaN);
  }
  return total;
}
