import {
  BUILD,
  type Schema,
  TULLE_DROPPED,
  WORKLOAD_MANAGER,
  XDS_MESSAGES,
  XDS_TERMINATIONS,
} from "./metric-families.ts";
import { createSeriesMemory, SeriesTable } from "./series-table.ts";

/** Why an xDS connection ended (spec: l4-ztunnel §5.4). */
export type XdsEnd = "ConnectionError" | "Error" | "Reconnect" | "Complete";

/** The main thread counts a few things only. */
const SERIES = 128;
const STRING_BYTES = 16_384;

/** What the main thread counts; kept in a table like a data thread's, so that there is one way to print. */
export class MainMetrics {
  readonly memory: SharedArrayBuffer = createSeriesMemory({ series: SERIES, stringBytes: STRING_BYTES });
  readonly #table = new SeriesTable(this.memory, [BUILD, XDS_MESSAGES, XDS_TERMINATIONS, TULLE_DROPPED]);
  readonly #cells = new Map<string, number>();

  /** `istio_build`; `tag` is ISTIO_META_ISTIO_VERSION or "unknown". */
  build(component: string, tag: string): void {
    this.#table.cells[this.#series(BUILD, [component, tag])] = 1;
  }

  /** One DeltaDiscoveryResponse; `bytes`: the sum of its resources' payloads. */
  xdsMessage(typeUrl: string, bytes: number): void {
    const cell = this.#series(XDS_MESSAGES, [typeUrl]);
    this.#add(cell, 1);
    this.#add(cell + 1, bytes);
  }

  xdsTerminated(reason: XdsEnd): void {
    this.#add(this.#series(XDS_TERMINATIONS, [reason]), 1);
  }

  /** Shared mode: from the first call on the workload_manager family is printed. */
  proxies(active: number, pending: number): void {
    const cell = this.#series(WORKLOAD_MANAGER, []);
    this.#table.cells[cell] = active;
    this.#table.cells[cell + 1] = pending;
  }

  proxyStarted(): void {
    this.#add(this.#series(WORKLOAD_MANAGER, []) + 2, 1);
  }

  proxyStopped(): void {
    this.#add(this.#series(WORKLOAD_MANAGER, []) + 3, 1);
  }

  /** Totals, read from the threads when metrics are asked for. */
  logLinesDropped(thread: string, lines: number): void {
    this.#table.cells[this.#series(TULLE_DROPPED, [thread])] = lines;
  }

  seriesOverflowed(thread: string, times: number): void {
    this.#table.cells[this.#series(TULLE_DROPPED, [thread]) + 1] = times;
  }

  #series(schema: Schema, labels: readonly string[]): number {
    const key = `${schema.id},${labels.join()}`;
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      const added = this.#table.add(
        schema,
        labels.map((label) => this.#table.string(label)),
      );
      cell = added.cell;
      if (!added.full) this.#cells.set(key, cell);
    }
    return cell;
  }

  #add(cell: number, by: number): void {
    this.#table.cells[cell] = (this.#table.cells[cell] ?? 0) + by;
  }
}
