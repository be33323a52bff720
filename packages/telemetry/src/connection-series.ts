import type { ConnectionLabels, OpenConnection, PeerLabels, ResponseFlag, ServiceLabels } from "./contract.ts";
import {
  TCP,
  TCP_CLOSED,
  TCP_FAILED,
  TCP_LABELS,
  TCP_OPENED,
  TCP_RECEIVED,
  TCP_SENT,
  TCP_SOCKETS,
} from "./metric-families.ts";
import { ABSENT, NO_ROOM, type SeriesTable } from "./series-table.ts";

/** The istio_tcp_* series of one thread. */

/** Distinct peers and services that are remembered at most; beyond that, tuples count as overflow. */
const MAX_REMEMBERED = 16_384;
const FLAGS_AT = TCP_LABELS.indexOf("response_flags");

/** The series of one label tuple: where the numbers of each flag are. */
interface Series {
  /** undefined: the table was full, these are the numbers of the overflow series. */
  readonly labels: readonly number[] | undefined;
  readonly sockets: number;
  /** Of flag "-". */
  readonly base: number;
  readonly flagged: Map<ResponseFlag, number>;
}

export class ConnectionSeries {
  readonly #table: SeriesTable;
  readonly #series = new Map<string, Series>();
  readonly #peers: Interner<PeerLabels>;
  readonly #services: Interner<ServiceLabels>;
  readonly #flags = new Map<ResponseFlag, number>();
  readonly #protocol: number;
  readonly #unknown: number;
  readonly #sockets: { readonly source: number; readonly destination: number };

  constructor(table: SeriesTable) {
    this.#table = table;
    this.#peers = new Interner(table, (peer) => [
      peer.workload,
      peer.canonicalService,
      peer.canonicalRevision,
      peer.namespace,
      peer.cluster,
      peer.region,
      peer.zone,
    ]);
    this.#services = new Interner(table, (service) => [service.hostname, service.namespace, service.name]);
    this.#protocol = table.string("tcp");
    this.#unknown = table.string(undefined);
    this.#sockets = {
      source: table.add(TCP_SOCKETS, [table.string("source")]).cell,
      destination: table.add(TCP_SOCKETS, [table.string("destination")]).cell,
    };
  }

  open(labels: ConnectionLabels): OpenConnection {
    const series = this.#find(labels);
    const { cells } = this.#table;
    add(cells, series.base + TCP_OPENED, 1);
    add(cells, series.sockets, 1);
    return new Counted(cells, series, this);
  }

  /** String ids of the eight source labels of a workload that is seen from outside a connection. */
  sourceLabels(source: PeerLabels | undefined, principal: string | undefined): readonly number[] {
    return this.#peerLabels(this.#peers.ids(source), this.#table.string(principal));
  }

  #find(labels: ConnectionLabels): Series {
    const source = this.#peers.entry(labels.source);
    const destination = this.#peers.entry(labels.destination);
    const service = this.#services.entry(labels.service);
    const sourcePrincipal = this.#table.string(labels.sourcePrincipal);
    const destinationPrincipal = this.#table.string(labels.destinationPrincipal);
    const key = `${labels.reporter},${labels.security},${source.id},${sourcePrincipal},${service.id},${destination.id},${destinationPrincipal}`;
    const known = this.#series.get(key);
    if (known !== undefined) return known;

    const tuple = [
      this.#table.string(labels.reporter),
      ...this.#peerLabels(source.strings, sourcePrincipal),
      ...(service.strings ?? [this.#unknown, this.#unknown, this.#unknown]),
      ...this.#peerLabels(destination.strings, destinationPrincipal),
      this.#protocol,
      this.#flag("-"),
      this.#table.string(labels.security),
      ...locality(source.strings),
      ...locality(destination.strings),
    ];
    const room = source !== REFUSED && destination !== REFUSED && service !== REFUSED;
    const { cell, full } = room ? this.#table.add(TCP, tuple) : this.#table.overflow(TCP);
    const series: Series = {
      labels: full ? undefined : tuple,
      sockets: this.#sockets[labels.reporter],
      base: cell,
      flagged: new Map(),
    };
    if (!full) this.#series.set(key, series);
    return series;
  }

  /** Where the numbers of this tuple with this flag are. */
  cellOf(series: Series, flag: ResponseFlag): number {
    if (flag === "-") return series.base;
    const known = series.flagged.get(flag);
    if (known !== undefined) return known;
    const labels = series.labels?.with(FLAGS_AT, this.#flag(flag));
    const { cell } = labels === undefined ? this.#table.overflow(TCP) : this.#table.add(TCP, labels);
    series.flagged.set(flag, cell);
    return cell;
  }

  #flag(flag: ResponseFlag): number {
    let id = this.#flags.get(flag);
    if (id === undefined) {
      id = this.#table.string(flag);
      this.#flags.set(flag, id);
    }
    return id;
  }

  /** workload, canonical service, canonical revision, namespace, principal, app, version, cluster. */
  #peerLabels(strings: readonly number[] | undefined, principal: number): readonly number[] {
    const none = this.#unknown;
    const [workload = none, service = none, revision = none, namespace = none, cluster = none] = strings ?? [];
    return [workload, service, revision, namespace, principal, service, revision, cluster];
  }
}

class Counted implements OpenConnection {
  readonly #cells: Float64Array;
  readonly #series: Series;
  readonly #owner: ConnectionSeries;
  #fromClient = 0;
  #fromServer = 0;
  #open = true;

  constructor(cells: Float64Array, series: Series, owner: ConnectionSeries) {
    this.#cells = cells;
    this.#series = series;
    this.#owner = owner;
  }

  progress(fromClient: number, fromServer: number): void {
    if (!this.#open) return;
    // Istio calls what the client sends "received", whichever side reports.
    add(this.#cells, this.#series.base + TCP_RECEIVED, fromClient - this.#fromClient);
    add(this.#cells, this.#series.base + TCP_SENT, fromServer - this.#fromServer);
    this.#fromClient = fromClient;
    this.#fromServer = fromServer;
  }

  closed(flag: ResponseFlag, fromClient: number, fromServer: number): void {
    if (!this.#open) return;
    this.progress(fromClient, fromServer);
    this.#open = false;
    add(this.#cells, this.#series.sockets, -1);
    const cell = this.#owner.cellOf(this.#series, flag);
    add(this.#cells, cell + TCP_CLOSED, 1);
    if (flag !== "-") add(this.#cells, cell + TCP_FAILED, 1);
  }
}

interface Entry {
  /** Small and unique. 0 stands for "no object"; an entry that found no room is never looked up. */
  readonly id: number;
  readonly strings: readonly number[] | undefined;
}

const NOTHING: Entry = { id: 0, strings: undefined };
const REFUSED: Entry = { id: NO_ROOM, strings: undefined };

/** Numbers objects by what they say: the same object is recognised at once, an equal one by its text. */
class Interner<T extends object> {
  readonly #table: SeriesTable;
  readonly #values: (object: T) => readonly (string | undefined)[];
  readonly #byObject = new WeakMap<T, Entry>();
  readonly #byText = new Map<string, Entry>();

  constructor(table: SeriesTable, values: (object: T) => readonly (string | undefined)[]) {
    this.#table = table;
    this.#values = values;
  }

  ids(object: T | undefined): readonly number[] | undefined {
    return this.entry(object).strings;
  }

  entry(object: T | undefined): Entry {
    if (object === undefined) return NOTHING;
    const known = this.#byObject.get(object);
    if (known !== undefined) return known;
    const strings = this.#values(object).map((value) => this.#table.string(value));
    const text = strings.join();
    let entry = this.#byText.get(text);
    if (entry === undefined) {
      if (strings.includes(NO_ROOM) || this.#byText.size >= MAX_REMEMBERED) return REFUSED;
      entry = { id: this.#byText.size + 1, strings };
      this.#byText.set(text, entry);
    }
    this.#byObject.set(object, entry);
    return entry;
  }
}

/** Region and zone of a known peer; not printed for an unknown one. */
function locality(strings: readonly number[] | undefined): readonly number[] {
  return strings === undefined ? [ABSENT, ABSENT] : strings.slice(-2);
}

function add(cells: Float64Array, cell: number, by: number): void {
  cells[cell] = (cells[cell] ?? 0) + by;
}
