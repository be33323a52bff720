import type { SocketAddress } from "@tulle/base";
import { Errno } from "@tulle/linux";
import type { Listener, ListenerHandler, ListenOptions } from "../contract.ts";
import type { SimulatedConnection } from "./connection.ts";
import type { SimulatedNamespace } from "./network.ts";
import type { SimulatedReactor } from "./reactor.ts";

const DEFAULT_BACKLOG = 1024;
/** How long accepting stops after it failed. */
const ACCEPT_BACKOFF_MS = 100;

/** A listening socket: connections wait in its backlog until the reactor's turn. */
export class SimulatedListener implements Listener {
  readonly address: SocketAddress;
  readonly transparent: boolean;
  readonly reactor: SimulatedReactor;
  readonly #namespace: SimulatedNamespace;
  readonly #handler: ListenerHandler;
  readonly #capacity: number;
  readonly #backlog: SimulatedConnection[] = [];
  #paused = false;
  #queued = false;
  #closed = false;

  constructor(
    reactor: SimulatedReactor,
    namespace: SimulatedNamespace,
    options: ListenOptions,
    handler: ListenerHandler,
  ) {
    this.reactor = reactor;
    this.#namespace = namespace;
    this.#handler = handler;
    this.#capacity = options.backlog ?? DEFAULT_BACKLOG;
    this.transparent = options.transparent !== undefined;
    const port = options.address.port === 0 ? namespace.ephemeralPort() : options.address.port;
    this.address = { ip: options.address.ip, port };
    namespace.listeners.set(port, [...(namespace.listeners.get(port) ?? []), this]);
    reactor.listeners.add(this);
  }

  /** A connection whose handshake is done; false: the backlog is full. */
  offer(connection: SimulatedConnection): boolean {
    if (this.#closed || this.#backlog.length >= this.#capacity) return false;
    this.#backlog.push(connection);
    this.#schedule();
    return true;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.reactor.listeners.delete(this);
    const { port } = this.address;
    const others = this.#namespace.listeners.get(port)?.filter((listener) => listener !== this) ?? [];
    if (others.length > 0) this.#namespace.listeners.set(port, others);
    else this.#namespace.listeners.delete(port);
    // tcp_migrate_req: another listener of the port takes over what was not accepted.
    for (const connection of this.#backlog.splice(0)) {
      if (!others.some((listener) => listener.offer(connection))) connection.reset();
    }
  }

  #schedule(): void {
    if (this.#queued || this.#paused || this.#closed || this.#backlog.length === 0) return;
    this.#queued = true;
    this.reactor.enqueue(undefined, () => this.#accept());
  }

  #accept(): void {
    this.#queued = false;
    if (this.#paused || this.#closed) return;
    const { network } = this.reactor;
    if (this.#backlog.length > 0 && network.happens(network.faults.acceptFailures)) {
      network.schedule(ACCEPT_BACKOFF_MS, () => this.#schedule());
      return this.#handler.onAcceptError(-Errno.EMFILE);
    }
    const connection = this.#backlog.shift();
    this.#schedule();
    if (connection === undefined || connection.closed) return;
    network.record("accept", String(connection.id));
    this.reactor.guard(connection, () => this.#handler.onAccept(connection));
    if (!connection.closed && connection.handler === undefined) connection.reset();
    else connection.resumeReading();
  }
}
