import { readlinkSync } from "node:fs";
import type { Log, LogFields, LogLevel } from "@tulle/base";
import { ACCESS_SCOPE, accessLevel, formatAccess } from "./access-log.ts";
import { ConnectionSeries } from "./connection-series.ts";
import type {
  AccessEvent,
  AccessRecord,
  ConnectionLabels,
  DataTelemetry,
  DnsLabels,
  DnsSeries,
  OpenConnection,
  PeerLabels,
  TulleCounter,
  TulleGauge,
} from "./contract.ts";
import { LogControl } from "./log-control.ts";
import { formatLine, type LogFormat, SCOPE_ROOT, Timestamps } from "./log-line.ts";
import {
  DNS,
  DNS_BUCKETS,
  DNS_DURATION,
  DNS_REQUESTS,
  DNS_UPSTREAM_FAILURES,
  DNS_UPSTREAM_REQUESTS,
  ON_DEMAND_DNS,
  TCP,
  TCP_SOCKETS,
  TULLE,
  TULLE_REFUSED,
} from "./metric-families.ts";
import { RingProducer } from "./record-ring.ts";
import { SeriesTable } from "./series-table.ts";
import { RECORD_LINE, type ThreadTelemetry, VITAL_TASK, VITAL_TURNS } from "./thread-telemetry.ts";

/** Distinct DNS and on-demand series that are remembered; beyond that, queries count as overflow. */
const MAX_REMEMBERED = 4096;

/**
 * A data thread's side of telemetry. Make one per thread, on the thread. `wall`: milliseconds since the epoch, fractions
 * allowed; default: this thread's own clock, to the microsecond.
 */
export function createDataTelemetry(memory: ThreadTelemetry, wall: () => number = preciseWall): DataTelemetry {
  return new Telemetry(memory, wall);
}

class Telemetry implements DataTelemetry {
  readonly log: Log;
  readonly #lines: Lines;
  readonly #table: SeriesTable;
  readonly #connections: ConnectionSeries;
  readonly #dns = new Map<string, DnsSeries>();
  readonly #lookups = new Map<string, number>();
  readonly #own: ReadonlyMap<string, number>;
  readonly #vitals: Int32Array;

  constructor(memory: ThreadTelemetry, wall: () => number) {
    this.#lines = new Lines(memory, wall);
    this.log = this.#lines.scope(SCOPE_ROOT);
    this.#table = new SeriesTable(memory.series, [TCP, TCP_SOCKETS, DNS, ON_DEMAND_DNS, TULLE_REFUSED]);
    this.#connections = new ConnectionSeries(this.#table);
    this.#own = ownCells(this.#table);
    this.#vitals = new Int32Array(memory.vitals);
    announceTask(this.#vitals);
  }

  turn(): void {
    Atomics.add(this.#vitals, VITAL_TURNS, 1);
  }

  connectionOpened(labels: ConnectionLabels): OpenConnection {
    return this.#connections.open(labels);
  }

  accessLogEnabled(event: AccessEvent, failed: boolean): boolean {
    return this.#lines.enabled(accessLevel(event, failed), ACCESS_SCOPE);
  }

  accessLog(record: AccessRecord, important = false): void {
    if (this.accessLogEnabled(record.event, record.error !== undefined)) this.#lines.access(record, important);
  }

  dns(labels: DnsLabels): DnsSeries {
    const { queryType, protocol, canonicalService, canonicalRevision } = labels;
    const key = `${queryType},${protocol},${canonicalService},${canonicalRevision}`;
    const known = this.#dns.get(key);
    if (known !== undefined) return known;
    const values = [queryType, protocol, canonicalService, canonicalRevision];
    const room = this.#dns.size < MAX_REMEMBERED;
    const added = room
      ? this.#table.add(
          DNS,
          values.map((value) => this.#table.string(value)),
        )
      : this.#table.overflow(DNS);
    const series = new DnsCells(this.#table.cells, added.cell);
    if (!added.full) this.#dns.set(key, series);
    return series;
  }

  onDemandDns(source: PeerLabels | undefined, hostname: string): void {
    const labels = [...this.#connections.sourceLabels(source, undefined), this.#table.string(hostname)];
    const key = labels.join();
    let cell = this.#lookups.get(key);
    if (cell === undefined) {
      const room = this.#lookups.size < MAX_REMEMBERED;
      const added = room ? this.#table.add(ON_DEMAND_DNS, labels) : this.#table.overflow(ON_DEMAND_DNS);
      if (!added.full) this.#lookups.set(key, added.cell);
      cell = added.cell;
    }
    add(this.#table.cells, cell, 1);
  }

  count(counter: TulleCounter, by = 1): void {
    const cell = this.#own.get(counter);
    if (cell !== undefined) add(this.#table.cells, cell, by);
  }

  gauge(gauge: TulleGauge, by: number): void {
    const cell = this.#own.get(gauge);
    if (cell !== undefined) add(this.#table.cells, cell, by);
  }
}

/** The thread's lines: filtered, formatted here (so that main only copies bytes), put into the ring. */
class Lines {
  readonly #ring: RingProducer;
  readonly #control: LogControl;
  readonly #format: LogFormat;
  readonly #wall: () => number;
  readonly #timestamps = new Timestamps();

  constructor(memory: ThreadTelemetry, wall: () => number) {
    this.#ring = new RingProducer(memory.ring);
    this.#control = new LogControl(memory.control);
    this.#format = memory.format;
    this.#wall = wall;
  }

  enabled(level: LogLevel, scope: string): boolean {
    return this.#control.filter.enabled(level, scope);
  }

  access(record: AccessRecord, important: boolean): void {
    this.#ring.write(RECORD_LINE, formatAccess(this.#format, this.#now(), record), important);
  }

  write(level: LogLevel, scope: string, message: string, fields: LogFields | undefined): void {
    if (!this.enabled(level, scope)) return;
    const important = level === "warn" || level === "error";
    this.#ring.write(RECORD_LINE, formatLine(this.#format, this.#now(), level, scope, message, fields), important);
  }

  scope(scope: string): Log {
    return {
      debug: (message, fields) => this.write("debug", scope, message, fields),
      info: (message, fields) => this.write("info", scope, message, fields),
      warn: (message, fields) => this.write("warn", scope, message, fields),
      error: (message, fields) => this.write("error", scope, message, fields),
      scope: (name) => this.scope(`${scope}::${name}`),
    };
  }

  #now(): string {
    return this.#timestamps.format(this.#wall());
  }
}

class DnsCells implements DnsSeries {
  readonly #cells: Float64Array;
  readonly #base: number;

  constructor(cells: Float64Array, base: number) {
    this.#cells = cells;
    this.#base = base;
  }

  request(): void {
    add(this.#cells, this.#base + DNS_REQUESTS, 1);
  }

  upstreamRequest(): void {
    add(this.#cells, this.#base + DNS_UPSTREAM_REQUESTS, 1);
  }

  upstreamFailure(): void {
    add(this.#cells, this.#base + DNS_UPSTREAM_FAILURES, 1);
  }

  upstreamDuration(seconds: number): void {
    const found = DNS_BUCKETS.findIndex((bound) => seconds <= bound);
    const bucket = found < 0 ? DNS_BUCKETS.length : found;
    add(this.#cells, this.#base + DNS_DURATION + bucket, 1);
    add(this.#cells, this.#base + DNS_DURATION + DNS_BUCKETS.length + 1, seconds);
  }
}

/** Name of a counter or gauge of our own → where its number is. */
function ownCells(table: SeriesTable): ReadonlyMap<string, number> {
  const cells = new Map<string, number>();
  const { cell } = table.add(TULLE, []);
  for (const family of TULLE.families) cells.set(family.name.slice("tulle_".length), cell + family.cell);
  for (const reason of REFUSAL_REASONS) {
    cells.set(`connections_refused:${reason}`, table.add(TULLE_REFUSED, [table.string(reason)]).cell);
  }
  return cells;
}

type RefusalReason = TulleCounter extends infer Name
  ? Name extends `connections_refused:${infer Reason}`
    ? Reason
    : never
  : never;

const REFUSAL_REASONS: readonly RefusalReason[] = [
  "pod_connections",
  "pod_buffered_bytes",
  "unauthenticated_listener",
  "unauthenticated_source",
  "authentication_timeout",
  "unknown_destination",
  "unknown_waypoint",
  "missing_policy",
];

/** Tells main under which id the kernel accounts for this thread; metrics of thread time are left out without it. */
function announceTask(vitals: Int32Array): void {
  try {
    const task = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
    Atomics.store(vitals, VITAL_TASK, task);
  } catch {
    // No procfs: there is nothing to announce.
  }
}

function preciseWall(): number {
  return performance.timeOrigin + performance.now();
}

function add(cells: Float64Array, cell: number, by: number): void {
  cells[cell] = (cells[cell] ?? 0) + by;
}
