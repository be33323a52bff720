import type { MeshError } from "@tulle/base";
import type { ByteBudget, ThreadMemory } from "@tulle/h2";
import type { KeepAlive, Reactor, Timer } from "@tulle/reactor";
import type { TlsSession } from "@tulle/tls";
import type {
  ConnectRequest,
  OutgoingTunnel,
  PoolKey,
  PoolSocketOptions,
  TunnelHandler,
  TunnelPool,
} from "./contract.ts";
import { poolClosed, tlsFailed, tooManyWaiting } from "./errors.ts";
import { HANDSHAKE_DEADLINE_MS, type Http2Sizes, http2Limits, threadMemory } from "./options.ts";
import { ClientTunnel } from "./outgoing-tunnel.ts";
import { PooledConnection, type PooledConnectionEvents } from "./pooled-connection.ts";

export interface TunnelPoolOptions {
  readonly reactor: Reactor;
  /** A new client session for this key; undefined when there is no certificate. May throw. */
  readonly session: (key: PoolKey) => TlsSession | undefined;
  readonly socket?: PoolSocketOptions;
  readonly keepAlive?: KeepAlive | undefined;
  readonly http2?: Partial<Http2Sizes>;
  /** Tunnels at a time on one connection, if the peer allows as many. Default 100. */
  readonly maxStreamsPerConnection?: number;
  /** A connection without a tunnel is closed after this time, ms. Default 300 s. */
  readonly unusedReleaseMs?: number;
  /** A connection that is older takes no new tunnels, ms. Default 1 h. */
  readonly maxAgeMs?: number;
  /** Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** From connect to the server's SETTINGS. Default 10 s. */
  readonly handshakeDeadlineMs?: number;
  /** Tunnels that wait for one destination's connection. Default 4096; more fail at once. */
  readonly maxWaiting?: number;
  /** Limits what is held for applications that do not read. */
  readonly budget?: ByteBudget;
  /** Default: the thread's. */
  readonly memory?: ThreadMemory;
}

const DEFAULTS = {
  maxStreamsPerConnection: 100,
  unusedReleaseMs: 300_000,
  maxAgeMs: 3_600_000,
  connectTimeoutMs: HANDSHAKE_DEADLINE_MS,
  handshakeDeadlineMs: HANDSHAKE_DEADLINE_MS,
  maxWaiting: 4096,
} as const;

/** Idle and aged connections are looked for this often, or four times per idle time if that is less. */
const SWEEP_MS = 30_000;

export function createTunnelPool(options: TunnelPoolOptions): TunnelPool {
  return new Pool(options);
}

/** The connections of one key. */
interface Group {
  readonly id: string;
  readonly key: PoolKey;
  readonly connections: Set<PooledConnection>;
  /** The one connection attempt that is under way. */
  connecting: PooledConnection | undefined;
  readonly waiting: Set<ClientTunnel>;
}

class Pool implements TunnelPool, PooledConnectionEvents {
  readonly #options: TunnelPoolOptions & typeof DEFAULTS;
  readonly #memory: ThreadMemory;
  readonly #groups = new Map<string, Group>();
  readonly #groupOf = new Map<PooledConnection, Group>();
  #sweeper: Timer | undefined;
  #draining = false;
  #closed = false;

  constructor(options: TunnelPoolOptions) {
    this.#options = { ...DEFAULTS, ...options } as TunnelPoolOptions & typeof DEFAULTS;
    this.#memory = options.memory ?? threadMemory();
  }

  get size(): { readonly connections: number; readonly tunnels: number } {
    let tunnels = 0;
    for (const connection of this.#groupOf.keys()) tunnels += connection.tunnels;
    return { connections: this.#groupOf.size, tunnels };
  }

  open(key: PoolKey, request: ConnectRequest, handler: TunnelHandler): OutgoingTunnel {
    const { reactor, budget } = this.#options;
    const tunnel = new ClientTunnel({
      key,
      request,
      handler,
      reactor,
      memory: this.#memory,
      budget,
      retry: (retried) => this.#place(retried),
      cancelled: (cancelled) => this.#forget(cancelled),
    });
    if (this.#closed) tunnel.fail(poolClosed());
    else this.#place(tunnel);
    return tunnel;
  }

  dropAddress(ip: string, error: MeshError): void {
    for (const [connection, { key }] of this.#groupOf) if (key.address.ip === ip) connection.close(error);
  }

  drain(): void {
    this.#draining = true;
    for (const [connection, group] of this.#groupOf) this.#retireUnused(connection, group);
  }

  close(error: MeshError): void {
    this.#closed = true;
    for (const group of this.#groups.values()) this.#failWaiting(group, error);
    for (const connection of this.#groupOf.keys()) connection.close(error);
    this.#sweeper?.cancel();
    this.#sweeper = undefined;
  }

  // === a connection's events

  onReady(connection: PooledConnection): void {
    const group = this.#groupOf.get(connection);
    if (group === undefined) return;
    group.connecting = undefined;
    // Those for whom it was made have found room elsewhere meanwhile; the server would not keep it for long.
    if (group.waiting.size === 0 && group.connections.size > 1) connection.retire();
    else this.#serve(group);
    this.#retireUnused(connection, group);
  }

  onTunnelClosed(connection: PooledConnection): void {
    const group = this.#groupOf.get(connection);
    if (group === undefined) return;
    if (group.waiting.size > 0) this.#serve(group);
    this.#retireUnused(connection, group);
  }

  onEnded(connection: PooledConnection, error: MeshError | undefined): void {
    const group = this.#groupOf.get(connection);
    if (group === undefined) return;
    this.#groupOf.delete(connection);
    group.connections.delete(connection);
    if (group.connecting === connection) {
      group.connecting = undefined;
      // They have waited for this very result.
      if (error !== undefined) this.#failWaiting(group, error);
    }
    if (group.waiting.size > 0) this.#serve(group);
    if (group.connections.size === 0 && this.#groups.get(group.id) === group) this.#groups.delete(group.id);
    if (this.#groupOf.size === 0) {
      this.#sweeper?.cancel();
      this.#sweeper = undefined;
    }
  }

  /** Gives the tunnel a connection, or lets it wait for one. False: it has failed. */
  #place(tunnel: ClientTunnel): boolean {
    if (this.#closed) return false;
    const group = this.#groupFor(tunnel.key);
    if (group.waiting.size === 0 && this.#request(group, tunnel)) return true;
    if (group.waiting.size >= this.#options.maxWaiting) {
      tunnel.fail(tooManyWaiting());
      return true;
    }
    group.waiting.add(tunnel);
    this.#connect(group);
    return true;
  }

  #request(group: Group, tunnel: ClientTunnel): boolean {
    const { maxAgeMs, reactor } = this.#options;
    const oldest = reactor.now() - maxAgeMs;
    for (const connection of group.connections) {
      if (connection.hasRoom && connection.createdAt > oldest && tunnel.request(connection)) return true;
    }
    return false;
  }

  /** Gives connections to those who wait, in order; makes another one if there are too few. */
  #serve(group: Group): void {
    for (const tunnel of group.waiting) {
      if (!this.#request(group, tunnel)) break;
      group.waiting.delete(tunnel);
    }
    if (group.waiting.size > 0) this.#connect(group);
  }

  #connect(group: Group): void {
    if (group.connecting !== undefined || this.#closed) return;
    const { reactor, socket, keepAlive, http2, maxStreamsPerConnection } = this.#options;
    const { connectTimeoutMs, handshakeDeadlineMs } = this.#options;
    const session = this.#session(group);
    if (session === undefined) return;
    const connection = new PooledConnection({
      reactor,
      connect: { address: group.key.address, ...socket, ...(keepAlive === undefined ? {} : { keepAlive }) },
      session,
      memory: this.#memory,
      limits: http2Limits(http2, maxStreamsPerConnection),
      connectTimeoutMs,
      handshakeDeadlineMs,
      events: this,
    });
    group.connecting = connection;
    group.connections.add(connection);
    this.#groupOf.set(connection, group);
    this.#sweepLater();
  }

  /** While draining, a connection that nobody uses has no future. */
  #retireUnused(connection: PooledConnection, group: Group): void {
    if (this.#draining && connection.ready && connection.tunnels === 0 && group.waiting.size === 0) connection.retire();
  }

  #session(group: Group): TlsSession | undefined {
    let reason = new Error("there is no certificate");
    try {
      const session = this.#options.session(group.key);
      if (session !== undefined) return session;
    } catch (error) {
      reason = error instanceof Error ? error : new Error(String(error));
    }
    this.#failWaiting(group, tlsFailed(reason));
    if (group.connections.size === 0) this.#groups.delete(group.id);
    return undefined;
  }

  #failWaiting(group: Group, error: MeshError): void {
    const waiting = [...group.waiting];
    group.waiting.clear();
    for (const tunnel of waiting) tunnel.fail(error);
  }

  #forget(tunnel: ClientTunnel): void {
    this.#groups.get(identify(tunnel.key))?.waiting.delete(tunnel);
  }

  #groupFor(key: PoolKey): Group {
    const id = identify(key);
    let group = this.#groups.get(id);
    if (group === undefined) {
      group = { id, key, connections: new Set(), connecting: undefined, waiting: new Set() };
      this.#groups.set(id, group);
    }
    return group;
  }

  #sweepLater(): void {
    const { reactor, unusedReleaseMs } = this.#options;
    this.#sweeper ??= reactor.after(Math.min(SWEEP_MS, unusedReleaseMs / 4), () => {
      this.#sweeper = undefined;
      this.#sweep();
      if (this.#groupOf.size > 0) this.#sweepLater();
    });
  }

  /** Closes what nobody has used for long, and lets go of what is old. */
  #sweep(): void {
    const { reactor, unusedReleaseMs, maxAgeMs } = this.#options;
    const now = reactor.now();
    for (const connection of this.#groupOf.keys()) {
      if (!connection.ready || connection.retired) continue;
      const unused = connection.tunnels === 0 && now - connection.idleSince >= unusedReleaseMs;
      if (unused || now - connection.createdAt >= maxAgeMs) connection.retire();
    }
  }
}

/** The same text for keys that mean the same. */
function identify(key: PoolKey): string {
  const { source, destinations, address, sourceIp } = key;
  const identities = destinations.length < 2 ? destinations[0] : [...destinations].sort().join(",");
  return `${source} ${identities} ${address.ip} ${address.port} ${sourceIp}`;
}
