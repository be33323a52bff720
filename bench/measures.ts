import { type Requests, type Throughput, iperf, wrk } from "./load.ts";
import { cpuSeconds } from "./process-usage.ts";
import { HTTP_PORT, IPERF_PORT, type Stage } from "./stage.ts";

/** Figures by their key, see FIGURES. */
export type Sample = Readonly<Record<string, number>>;

/** One kind of load. */
export interface Measure {
  readonly name: string;
  readonly run: (stage: Stage, seconds: number) => Promise<Sample>;
}

export interface Figure {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  /** Whether less is better. */
  readonly lower: boolean;
}

const BYTES_PER_GIB = 2 ** 30;
const CONNECTIONS = { bulk: [1, 8], requests: [1, 32, 100], opening: 32 } as const;

export const MEASURES: readonly Measure[] = [
  ...CONNECTIONS.bulk.flatMap((connections) => [bulk(connections, false), bulk(connections, true)]),
  ...CONNECTIONS.requests.map(requests),
  opening(CONNECTIONS.opening),
];

/** Every figure in the order of the report. Memory is taken by run.ts. */
export const FIGURES: readonly Figure[] = [
  ...CONNECTIONS.bulk.flatMap((count) =>
    [false, true].map((reverse) => ({
      key: bulkKey(count, reverse),
      title: `bulk, ${count} connection${count === 1 ? "" : "s"}, ${reverse ? "towards the client" : "towards the server"}`,
      unit: "Gbit/s",
      lower: false,
    })),
  ),
  ...CONNECTIONS.requests.flatMap((count) => [
    { key: `requests-${count}`, title: `requests, ${count} at a time`, unit: "/s", lower: false },
    { key: `requests-${count}-p50`, title: `latency p50, ${count} at a time`, unit: "ms", lower: true },
    { key: `requests-${count}-p99`, title: `latency p99, ${count} at a time`, unit: "ms", lower: true },
  ]),
  { key: "opening", title: `new connections, ${CONNECTIONS.opening} at a time`, unit: "/s", lower: false },
  { key: "cpu-gib", title: "CPU per GiB, 8 connections", unit: "s", lower: true },
  { key: "cpu-requests", title: "CPU per 1,000 requests, 100 at a time", unit: "s", lower: true },
  { key: "cpu-connections", title: "CPU per 1,000 new connections", unit: "s", lower: true },
  { key: "memory-idle", title: "memory per proxy, idle", unit: "MB", lower: true },
  { key: "memory-loaded", title: "memory per proxy, after load", unit: "MB", lower: true },
];

function bulk(connections: number, reverse: boolean): Measure {
  const key = bulkKey(connections, reverse);
  return {
    name: key,
    run: async (stage, seconds) => {
      const { client, server } = stage.place;
      const target = { ip: server.ip, port: IPERF_PORT, connections, reverse, seconds };
      const [result, cpu] = await counted<Throughput>(stage, () => iperf(client.namespace, target));
      const perGib = cpu === undefined ? {} : { "cpu-gib": cpu / (result.bytes / BYTES_PER_GIB) };
      return { [key]: result.gigabitsPerSecond, ...(connections === 8 && !reverse ? perGib : {}) };
    },
  };
}

function requests(connections: number): Measure {
  const key = `requests-${connections}`;
  return {
    name: key,
    run: async (stage, seconds) => {
      const { client, server } = stage.place;
      const target = { ip: server.ip, port: HTTP_PORT, connections, seconds };
      const [result, cpu] = await counted<Requests>(stage, () => wrk(client.namespace, target));
      const { perSecond, p50Ms, p99Ms, count } = result;
      const sample = { [key]: perSecond, [`${key}-p50`]: p50Ms, [`${key}-p99`]: p99Ms };
      return connections === 100 && cpu !== undefined ? { ...sample, "cpu-requests": cpu / (count / 1000) } : sample;
    },
  };
}

function opening(connections: number): Measure {
  return {
    name: "opening",
    run: async (stage, seconds) => {
      const { client, server } = stage.place;
      const target = { ip: server.ip, port: HTTP_PORT, connections, newConnections: true, seconds };
      const [{ perSecond, count }, cpu] = await counted<Requests>(stage, () => wrk(client.namespace, target));
      return cpu === undefined
        ? { opening: perSecond }
        : { opening: perSecond, "cpu-connections": cpu / (count / 1000) };
    },
  };
}

/** Runs a load and returns with its result the CPU seconds that the contender spent meanwhile; undefined without processes. */
async function counted<T>({ running }: Stage, load: () => Promise<T>): Promise<[result: T, cpu: number | undefined]> {
  const { pids } = running;
  const before = cpuSeconds(pids);
  const result = await load();
  return [result, pids.length === 0 ? undefined : cpuSeconds(pids) - before];
}

function bulkKey(connections: number, reverse: boolean): string {
  return `bulk-${connections}-${reverse ? "client" : "server"}`;
}
