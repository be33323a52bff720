import type { LabNamespace } from "@tulle/lab";

/** The two load generators, as functions: iperf3 for bytes, wrk for requests. */

export interface Throughput {
  readonly gigabitsPerSecond: number;
  readonly bytes: number;
}

export interface Requests {
  readonly perSecond: number;
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What a generator may take on top of the measuring time before it counts as hung. */
const GRACE_MS = 15_000;
const UNIT_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000 };

/** TCP bulk transfer; `reverse` sends towards the client. The receiver's count is what counts. */
export async function iperf(
  namespace: LabNamespace,
  options: {
    readonly ip: string;
    readonly port: number;
    readonly connections: number;
    readonly reverse: boolean;
    readonly seconds: number;
  },
): Promise<Throughput> {
  const { ip, port, connections, reverse, seconds } = options;
  const args = [
    "--client",
    ip,
    "--port",
    String(port),
    "--json",
    "--time",
    String(seconds),
    "--parallel",
    String(connections),
  ];
  const text = await namespace.run("iperf3", reverse ? [...args, "--reverse"] : args, {
    timeoutMs: seconds * 1000 + GRACE_MS,
  });
  return parseIperf(text);
}

export function parseIperf(text: string): Throughput {
  const { error, end } = JSON.parse(text) as {
    readonly error?: string;
    readonly end?: { readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number } };
  };
  const received = end?.sum_received;
  if (received === undefined) throw new Error(`iperf3: ${error ?? "no result"}`);
  return { gigabitsPerSecond: received.bits_per_second / 1e9, bytes: received.bytes };
}

/** GET / over HTTP/1.1; with `newConnections` each request has a connection of its own. */
export async function wrk(
  namespace: LabNamespace,
  options: {
    readonly ip: string;
    readonly port: number;
    readonly connections: number;
    readonly newConnections?: boolean;
    readonly seconds: number;
  },
): Promise<Requests> {
  const { ip, port, connections, newConnections = false, seconds } = options;
  const threads = connections === 1 ? 1 : 2;
  const args = ["-t", String(threads), "-c", String(connections), "-d", `${seconds}s`, "--timeout", "10s", "--latency"];
  const headers = newConnections ? ["-H", "Connection: close"] : [];
  const url = `http://${ip}:${port}/`;
  return parseWrk(await namespace.run("wrk", [...args, ...headers, url], { timeoutMs: seconds * 1000 + GRACE_MS }));
}

/** Throws when any request failed: a figure with errors in it says nothing. */
export function parseWrk(text: string): Requests {
  const failed = /^\s*(Socket errors:.*|Non-2xx.*)$/m.exec(text)?.[1];
  const number = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? Number.NaN);
  const latency = (percent: number) => {
    const [, value, unit = ""] = new RegExp(String.raw`^\s*${percent}%\s+([\d.]+)(us|ms|s|m)$`, "m").exec(text) ?? [];
    return Number(value) * (UNIT_MS[unit] ?? Number.NaN);
  };
  const requests = {
    perSecond: number(/^Requests\/sec:\s+([\d.]+)$/m),
    count: number(/^\s*(\d+) requests in/m),
    p50Ms: latency(50),
    p99Ms: latency(99),
  };
  if (failed !== undefined) throw new Error(`wrk: ${failed.trim()}`);
  if (Object.values(requests).some(Number.isNaN)) throw new Error(`wrk: no result in:\n${text}`);
  return requests;
}
