import type { MeshError } from "@tulle/base";
import { type ByteBudget, ThreadMemory } from "@tulle/h2";
import {
  type NetworkFaults,
  CALM,
  type SimulatedNamespace,
  SimulatedNetwork,
  type SimulatedReactor,
} from "@tulle/reactor";
import type { TlsSession } from "@tulle/tls";
import {
  acceptHbone,
  type AcceptOptions,
  createTunnelPool,
  type IncomingTunnel,
  type OutgoingTunnel,
  type PoolKey,
  type Relay,
  relayPlain,
  type ServerConnection,
  type TunnelPool,
  type TunnelPoolOptions,
} from "../src/index.ts";
import { App } from "./app.ts";
import { PlainSession } from "./plain-session.ts";

export interface Ended {
  readonly relay: Relay;
  readonly error: MeshError | undefined;
}

export interface MeshOptions {
  readonly faults?: Partial<NetworkFaults>;
  readonly seed?: number;
  readonly pool?: Partial<TunnelPoolOptions>;
  readonly server?: Partial<AcceptOptions>;
  /** What the inbound proxy does with a tunnel. Default: accepts it when the application can be connected to. */
  readonly onTunnel?: (tunnel: IncomingTunnel) => void;
  readonly clientSession?: () => TlsSession;
  readonly serverSession?: () => TlsSession;
  /** Relays bytes as they are instead of through a tunnel, in the outbound proxy alone. */
  readonly plain?: boolean;
  readonly budget?: ByteBudget;
}

export const KEY: PoolKey = {
  source: "spiffe://cluster.local/ns/default/sa/client",
  destinations: ["spiffe://cluster.local/ns/default/sa/server"],
  address: { ip: "10.0.0.3", port: 15_008 },
  sourceIp: "10.0.0.1",
};
export const SERVER = { ip: "10.0.0.4", port: 80 };

/** Client application → outbound proxy → inbound proxy → server application, on a simulated network without TLS. */
export class Mesh {
  readonly network: SimulatedNetwork;
  readonly clientHost: SimulatedNamespace;
  readonly outboundHost: SimulatedNamespace;
  readonly inboundHost: SimulatedNamespace;
  readonly outbound: SimulatedReactor;
  readonly inbound: SimulatedReactor;
  readonly client: SimulatedReactor;
  readonly server: SimulatedReactor;
  readonly outboundMemory = new ThreadMemory();
  readonly inboundMemory = new ThreadMemory();
  readonly pool: TunnelPool;
  readonly servers = new Map<ServerConnection, MeshError | undefined | "open">();
  readonly serverApps: App[] = [];
  readonly outboundEnds: Ended[] = [];
  readonly inboundEnds: Ended[] = [];
  readonly outboundRelays: Relay[] = [];
  readonly inboundRelays: Relay[] = [];
  readonly failures: { error: MeshError; status: number | undefined }[] = [];
  readonly established: OutgoingTunnel[] = [];
  readonly #options: MeshOptions;

  constructor(options: MeshOptions = {}) {
    this.#options = options;
    this.network = new SimulatedNetwork({ seed: options.seed ?? 1, faults: { ...CALM, ...options.faults } });
    this.clientHost = this.network.namespace("client", ["10.0.0.1"]);
    this.outboundHost = this.network.namespace("outbound", ["10.0.0.2"]);
    this.inboundHost = this.network.namespace("inbound", ["10.0.0.3"]);
    const serverHost = this.network.namespace("server", ["10.0.0.4"]);
    this.client = this.network.reactor(this.clientHost);
    this.outbound = this.network.reactor(this.outboundHost);
    this.inbound = this.network.reactor(this.inboundHost);
    this.server = this.network.reactor(serverHost);
    this.pool = createTunnelPool({
      reactor: this.outbound,
      session: options.clientSession ?? (() => new PlainSession()),
      memory: this.outboundMemory,
      ...(options.budget === undefined ? {} : { budget: options.budget }),
      ...options.pool,
    });
    this.server.listen(
      { address: { ip: "0.0.0.0", port: SERVER.port } },
      { onAccept: (connection) => void this.serverApps.push(App.on(connection)), onAcceptError() {} },
    );
    this.inbound.listen(
      { address: { ip: "0.0.0.0", port: 15_008 }, backlog: 4096 },
      { onAccept: (connection) => this.#serve(connection), onAcceptError() {} },
    );
    this.outbound.listen(
      { address: { ip: "0.0.0.0", port: 15_001 }, backlog: 4096 },
      {
        onAccept: (connection) => (options.plain ? this.#pass(connection) : this.#tunnel(connection)),
        onAcceptError() {},
      },
    );
  }

  /** A client application that is connecting to the outbound proxy. */
  connect(): App {
    return new App((handler) => this.client.connect({ address: { ip: "10.0.0.2", port: 15_001 } }, handler));
  }

  /** Runs until `done`; throws when it does not come true in a virtual minute. */
  until(what: string, done: () => boolean, withinMs = 60_000): void {
    if (!this.network.run(withinMs, done)) throw new Error(`did not happen: ${what}`);
  }

  /** Lets virtual time pass. */
  pass(ms: number): void {
    this.network.run(ms, () => false);
  }

  /** One client and its server application, connected through both proxies. */
  pair(): { client: App; server: App } {
    const before = this.serverApps.length;
    const relays = this.outboundRelays.length;
    const client = this.connect();
    this.until("the tunnel", () => this.serverApps.length > before && this.outboundRelays.length > relays);
    return { client, server: this.serverApps[before]! };
  }

  /** What is still open or leased anywhere in the proxies. */
  get leftovers(): Record<string, number> {
    const open = { outbound: this.outbound.open, inbound: this.inbound.open };
    return {
      outboundConnections: open.outbound.connections,
      inboundConnections: open.inbound.connections,
      outboundTimers: open.outbound.timers,
      inboundTimers: open.inbound.timers,
      leased: this.outboundMemory.leased + this.inboundMemory.leased,
      faults: this.outbound.faults + this.inbound.faults,
    };
  }

  #serve(connection: Parameters<typeof App.on>[0]): void {
    const server = acceptHbone(
      {
        reactor: this.inbound,
        connection,
        session: this.#options.serverSession?.() ?? new PlainSession(),
        memory: this.inboundMemory,
        ...(this.#options.budget === undefined ? {} : { budget: this.#options.budget }),
        ...this.#options.server,
      },
      {
        onTunnel: (tunnel) => (this.#options.onTunnel ?? ((t) => this.acceptTunnel(t)))(tunnel),
        onClosed: (closed, error) => void this.servers.set(closed, error),
      },
    );
    this.servers.set(server, "open");
  }

  acceptTunnel(tunnel: IncomingTunnel, headers: readonly (readonly [string, string])[] = []): void {
    const application = this.inbound.connect(
      { address: SERVER },
      {
        onConnected: (connection, error) => {
          if (error !== 0) return tunnel.reject(503);
          const relay = tunnel.accept(headers, connection, (ended, cause) => {
            this.inboundEnds.push({ relay: ended, error: cause });
          });
          this.inboundRelays.push(relay);
        },
        onReadable() {},
        onWritable() {},
      },
    );
    tunnel.onCancelled = () => application.reset();
  }

  #tunnel(connection: Parameters<typeof App.on>[0]): void {
    connection.setHandler({ onConnected() {}, onReadable() {}, onWritable() {} });
    this.pool.open(
      KEY,
      { authority: `${SERVER.ip}:${SERVER.port}`, headers: [["traceparent", `00-${connection.id}`]] },
      {
        onEstablished: (tunnel) => {
          this.established.push(tunnel);
          this.outboundRelays.push(
            tunnel.relay(connection, (relay, error) => void this.outboundEnds.push({ relay, error })),
          );
        },
        onFailed: (tunnel, error) => {
          this.failures.push({ error, status: tunnel.status });
          connection.reset();
        },
      },
    );
  }

  #pass(connection: Parameters<typeof App.on>[0]): void {
    connection.setHandler({ onConnected() {}, onReadable() {}, onWritable() {} });
    this.outbound.connect(
      { address: SERVER },
      {
        onConnected: (upstream, error) => {
          if (error !== 0) return connection.reset();
          const relay = relayPlain(connection, upstream, {
            onEnd: (ended, cause) => void this.outboundEnds.push({ relay: ended, error: cause }),
            memory: this.outboundMemory,
            ...(this.#options.budget === undefined ? {} : { budget: this.#options.budget }),
          });
          this.outboundRelays.push(relay);
        },
        onReadable() {},
        onWritable() {},
      },
    );
  }
}
