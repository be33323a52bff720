import type { EnvironmentReader } from "./config-values.ts";

/** How many data threads there are (spec: l4-ztunnel §10). */

/** Without a limit, a node's proxy takes a quarter of its cores, but two at least. */
const DEFAULT_SHARE = 0.25;
const DEFAULT_MINIMUM = 2;
/** More threads than any machine has cores are a mistake. */
const MAX_THREADS = 512;

/** `concurrency`: of PROXY_CONFIG; 0 means all cores. `allCores`: those of the machine. */
export function workerThreads(env: EnvironmentReader, concurrency: number | undefined, allCores: number): number {
  const limit = cores(env, "ZTUNNEL_RESOURCE_CPU_LIMIT");
  const request = cores(env, "ZTUNNEL_RESOURCE_CPU_REQUEST");
  const available = limit ?? cores(env, "ZTUNNEL_CPU_LIMIT") ?? allCores;
  const asked = explicit(env, available) ?? (concurrency === 0 ? available : concurrency);
  if (asked !== undefined) return asked;
  if (limit !== undefined) return Math.max(limit, request ?? 0);
  return Math.max(Math.ceil(available * DEFAULT_SHARE), request ?? 0, DEFAULT_MINIMUM);
}

/** ZTUNNEL_WORKER_THREADS: `4`, `0` (all cores), or `50%` of them. */
function explicit(env: EnvironmentReader, available: number): number | undefined {
  const value = env.text("ZTUNNEL_WORKER_THREADS");
  if (value === undefined) return undefined;
  const [, digits = "", percent] = /^(\d{1,4})(%?)$/.exec(value) ?? [];
  const number = digits === "" ? Number.NaN : Number(digits);
  if (percent === "%" && number >= 1 && number <= 100) return Math.max(1, Math.ceil((available * number) / 100));
  if (percent === "" && number <= MAX_THREADS) return number === 0 ? available : number;
  env.problem(
    `ZTUNNEL_WORKER_THREADS is "${value}", but must be a number of threads (at most ${MAX_THREADS}), 0 for all cores, or a share of them such as 50%`,
  );
  return undefined;
}

/** A Kubernetes quantity of CPU, rounded up to whole cores: `2`, `1.5`, `1500m`. */
function cores(env: EnvironmentReader, name: string): number | undefined {
  const value = env.text(name);
  if (value === undefined) return undefined;
  const [, number, milli] = /^(\d{1,9}(?:\.\d{1,9})?)(m?)$/.exec(value) ?? [];
  const amount = Number(number) / (milli === "m" ? 1000 : 1);
  if (amount > 0) return Math.ceil(amount);
  env.problem(`${name} is "${value}", but must be an amount of CPU such as 2 or 1500m`);
  return undefined;
}
