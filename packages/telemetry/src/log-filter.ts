import type { LogLevel } from "@tulle/base";
import { SCOPE_ROOT } from "./log-line.ts";

/**
 * Which lines are written: the filter syntax of RUST_LOG (`info`, `access=off,ztunnel::xds=debug,warn`), where the
 * longest scope that a line's scope begins with decides. `scope:level` is read as `scope=level`, as istioctl sends it.
 */

export type LevelFilter = LogLevel | "off";

/** The directives that ztunnel starts with; kept in the text because tools compare it. */
const BUILT_IN_SCOPE = "hickory_server::server";
const BUILT_IN = `${BUILT_IN_SCOPE}=off`;
export const DEFAULT_FILTER = `${BUILT_IN},info`;

const RANK: Readonly<Record<LevelFilter, number>> = { off: 0, error: 1, warn: 2, info: 3, debug: 4, trace: 5 };
const BY_NUMBER: readonly LevelFilter[] = ["off", "error", "warn", "info", "debug", "trace"];
/** Directives at most; more are a mistake. */
const MAX_DIRECTIVES = 64;
/** A line's scope is looked up once; scopes are names in our code, so there are few. */
const MAX_CACHED_SCOPES = 256;

export class LogFilter {
  readonly #levels: ReadonlyMap<string, LevelFilter>;
  /** Longest scope first, then by name: the order in which the text lists them, too. */
  readonly #scopes: readonly string[];
  readonly #ranks = new Map<string, number>();

  private constructor(levels: ReadonlyMap<string, LevelFilter>) {
    this.#levels = levels;
    this.#scopes = [...levels.keys()].sort((a, b) => b.length - a.length || (a < b ? -1 : 1));
  }

  /** The part that is wrong, or the filter. An empty text lets nothing but errors through, as in RUST_LOG. */
  static parse(text: string): LogFilter | { readonly invalid: string } {
    const levels = new Map<string, LevelFilter>();
    for (const part of text.split(",")) {
      const directive = part.trim();
      if (directive === "") continue;
      const parsed = parseDirective(directive);
      if (parsed === undefined || levels.size >= MAX_DIRECTIVES) return { invalid: directive };
      levels.set(parsed.scope, parsed.level);
    }
    if (levels.size === 0) levels.set("", "error");
    return new LogFilter(levels);
  }

  /** DEFAULT_FILTER. */
  static readonly default: LogFilter = new LogFilter(
    new Map<string, LevelFilter>([
      [BUILT_IN_SCOPE, "off"],
      ["", "info"],
    ]),
  );

  /** RUST_LOG's value, below what is built in. */
  static fromEnvironment(text: string | undefined): LogFilter | { readonly invalid: string } {
    return LogFilter.parse(`${BUILT_IN},${text === undefined || text === "" ? "info" : text}`);
  }

  /** This filter with further directives on top. */
  with(text: string): LogFilter | { readonly invalid: string } {
    const added = LogFilter.parse(text);
    if (!(added instanceof LogFilter)) return added;
    return new LogFilter(new Map([...this.#levels, ...added.#levels]));
  }

  enabled(level: LogLevel, scope: string): boolean {
    let rank = this.#ranks.get(scope);
    if (rank === undefined) {
      rank = this.#rank(scope);
      if (this.#ranks.size < MAX_CACHED_SCOPES) this.#ranks.set(scope, rank);
    }
    return RANK[level] <= rank;
  }

  toString(): string {
    return this.#scopes.map((scope) => (scope === "" ? "" : `${scope}=`) + this.#levels.get(scope)).join(",");
  }

  #rank(scope: string): number {
    const short = scope.startsWith(`${SCOPE_ROOT}::`) ? scope.slice(SCOPE_ROOT.length + 2) : scope;
    const match = this.#scopes.find((prefix) => scope.startsWith(prefix) || short.startsWith(prefix));
    return RANK[(match === undefined ? undefined : this.#levels.get(match)) ?? "off"];
  }
}

function parseDirective(text: string): { readonly scope: string; readonly level: LevelFilter } | undefined {
  const alone = parseLevel(text);
  if (alone !== undefined) return { scope: "", level: alone };
  const split = /^([\w:.-]*\w)[=:](\w+)$/.exec(text);
  if (split === null) return undefined;
  const level = parseLevel(split[2] ?? "");
  return level === undefined ? undefined : { scope: split[1] ?? "", level };
}

function parseLevel(text: string): LevelFilter | undefined {
  const lower = text.toLowerCase();
  return Object.hasOwn(RANK, lower)
    ? (lower as LevelFilter)
    : /^[0-5]$/.test(lower)
      ? BY_NUMBER[Number(lower)]
      : undefined;
}
