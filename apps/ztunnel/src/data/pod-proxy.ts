import { type MeshError, formatSocketAddress, type SocketAddress } from "@tulle/base";
import { createTunnelPool, type IncomingTunnel, type TunnelPool } from "@tulle/hbone";
import { type DryRunMatch, type PolicyScope, scopeTouches, type Workload } from "@tulle/mesh";
import type { Connection, ConnectionHandler, ConnectOptions, ListenOptions, Listener, Namespace } from "@tulle/reactor";
import type { ProxyConnections, ProxyKind, StopMode, WorkloadInfo } from "../protocol.ts";
import { BorrowedPorts } from "./borrowed-ports.ts";
import type { ThreadContext } from "./context.ts";
import { DnsServer } from "./dns/server.ts";
import { drainTimeout, drained, limitReached } from "./failures.ts";
import type { Flow } from "./flow.ts";
import { HboneAccept } from "./hbone-accept.ts";
import { InboundPlaintext } from "./inbound-plaintext.ts";
import { InboundTunnel } from "./inbound-tunnel.ts";
import { AdmissionControl, PodBudget } from "./limits.ts";
import { OutboundConnection } from "./outbound.ts";

export interface PodProxyOptions {
  readonly context: ThreadContext;
  readonly kind: ProxyKind;
  readonly uid: string;
  readonly workload: WorkloadInfo;
  /** Owned by the proxy: closed when the last socket is. */
  readonly namespace: (Namespace & { close(): void }) | undefined;
  readonly slot: number;
}

type Inbound = InboundTunnel | InboundPlaintext;

/** Spec: l4-ztunnel §1.3. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * What one thread does for one pod: the listeners in the pod's namespace, the connections that came through them, and the
 * HBONE connections made on the pod's behalf, which no other pod shares.
 */
export class PodProxy {
  readonly context: ThreadContext;
  readonly uid: string;
  readonly kind: ProxyKind;
  readonly workload: WorkloadInfo;
  readonly namespace: Namespace | undefined;
  readonly budget: PodBudget;
  readonly admission: AdmissionControl;
  readonly #ports: BorrowedPorts;
  readonly #closeNamespace: () => void;
  readonly #listeners: Listener[] = [];
  readonly #outbound = new Set<OutboundConnection>();
  readonly #inbound = new Set<Inbound>();
  readonly #servers = new Set<HboneAccept>();
  #dns: DnsServer | undefined;
  #pool: TunnelPool | undefined;
  #state: "running" | "draining" | "closed" = "running";
  #onClosed: () => void = () => {};

  constructor(options: PodProxyOptions) {
    this.context = options.context;
    this.uid = options.uid;
    this.kind = options.kind;
    this.workload = options.workload;
    this.namespace = options.namespace;
    this.#closeNamespace = () => options.namespace?.close();
    const { podCounters, settings, telemetry } = options.context;
    this.budget = new PodBudget(podCounters, options.slot, settings.limits, () => {
      telemetry.count("connections_refused:pod_buffered_bytes");
    });
    this.admission = new AdmissionControl(settings.limits);
    this.#ports = new BorrowedPorts(options.context, options.namespace);
  }

  /** Opens the listeners, all or none; throws the reason. */
  start(): void {
    const { dns, proxy } = this.context.settings;
    try {
      if (proxy) this.#openListeners();
      if (dns !== undefined && this.kind !== "self") this.#dns = new DnsServer(this, dns);
    } catch (error) {
      this.#close();
      throw error;
    }
  }

  /** The pod's own workload as the control plane knows it now. */
  localWorkload(): Workload | undefined {
    return this.context.state.localWorkload(this.workload, this.context.settings.nodeName);
  }

  pool(): TunnelPool {
    const { reactor, identities, settings } = this.context;
    this.#pool ??= createTunnelPool({
      reactor,
      session: (key) => identities.get(key.source)?.client({ kind: "identities", uris: key.destinations }),
      socket: {
        ...(this.namespace === undefined ? {} : { namespace: this.namespace }),
        ...(settings.packetMark === undefined ? {} : { mark: settings.packetMark }),
      },
      keepAlive: settings.keepAlive,
      http2: settings.http2,
      budget: this.budget,
      ...settings.pool,
    });
    return this.#pool;
  }

  /** Connects to the application with the client's address, so that the application sees who it talks to. */
  connectToApplication(target: SocketAddress, clientIp: string, handler: ConnectionHandler): Connection {
    const spoof = this.kind !== "self" && this.context.settings.originalSource !== false && clientIp !== target.ip;
    if (!spoof) return this.connect({ address: target }, handler);
    const sourcePort = this.#ports.choose(target, clientIp);
    const source = { source: clientIp, sourceFallback: "without" } as const;
    return this.connect({ address: target, ...source, ...(sourcePort === undefined ? {} : { sourcePort }) }, handler);
  }

  /** Connects from the pod's namespace, past its rules. */
  connect(
    to: Pick<ConnectOptions, "address" | "source" | "sourcePort" | "sourceFallback">,
    handler: ConnectionHandler,
  ): Connection {
    const { reactor, settings } = this.context;
    return reactor.connect(
      {
        ...to,
        timeoutMs: CONNECT_TIMEOUT_MS,
        ...(this.namespace === undefined ? {} : { namespace: this.namespace }),
        ...(settings.packetMark === undefined ? {} : { mark: settings.packetMark }),
        ...(settings.keepAlive === undefined ? {} : { keepAlive: settings.keepAlive }),
      },
      handler,
    );
  }

  onTunnel(tunnel: IncomingTunnel): void {
    if (!this.#take(tunnel.remote, "inbound", tunnel.local)) return tunnel.reject(503);
    new InboundTunnel(this, tunnel).start();
  }

  // === registers

  trackInbound(inbound: Inbound): void {
    this.#inbound.add(inbound);
  }

  forgetInbound(inbound: Inbound): void {
    this.#inbound.delete(inbound);
    this.budget.giveConnection();
    this.#closeWhenIdle();
  }

  forgetOutbound(outbound: OutboundConnection): void {
    if (!this.#outbound.delete(outbound)) return;
    this.budget.giveConnection();
    this.#closeWhenIdle();
  }

  forgetServer(server: HboneAccept): void {
    this.#servers.delete(server);
    this.#closeWhenIdle();
  }

  logFailure(
    direction: "inbound" | "outbound",
    source: SocketAddress,
    destination: SocketAddress,
    error: MeshError,
  ): void {
    const { telemetry } = this.context;
    if (!telemetry.accessLogEnabled("failed", true)) return;
    telemetry.accessLog({
      event: "failed",
      direction,
      sourceAddress: formatSocketAddress(source),
      destinationAddress: destination.ip === "" ? undefined : formatSocketAddress(destination),
      error: error.message,
    });
  }

  logDryRun(matches: readonly DryRunMatch[]): void {
    const { settings, telemetry } = this.context;
    for (const { policy, action } of matches) {
      const fields = { policy, action, workload: this.workload.name, namespace: this.workload.namespace };
      if (settings.dryRunAtInfo) telemetry.log.info("dry-run policy matched", fields);
      else telemetry.log.debug("dry-run policy matched", fields);
    }
  }

  // === what the thread asks of it

  /** Policies have changed: cuts what they forbid now. */
  reevaluate(scopes: readonly PolicyScope[]): void {
    const local = this.localWorkload();
    if (this.kind === "self" || local === undefined) return;
    if (!scopes.some((scope) => scopeTouches(scope, local))) return;
    for (const inbound of [...this.#inbound]) inbound.reevaluate(local);
  }

  /** This address belongs to another workload now. */
  dropAddress(ip: string, error: MeshError): void {
    const before = this.poolSize.connections;
    this.#pool?.dropAddress(ip, error);
    const dropped = before - this.poolSize.connections;
    if (dropped > 0) this.context.telemetry.count("pool_connections_dropped", dropped);
  }

  get poolSize(): TunnelPool["size"] {
    return this.#pool?.size ?? { connections: 0, tunnels: 0 };
  }

  progress(): void {
    for (const { flow } of this.#outbound) flow?.progress();
    for (const { flow } of this.#inbound) flow?.progress();
  }

  connections(): ProxyConnections {
    return {
      uid: this.uid,
      inbound: [...this.#inbound].flatMap((inbound) => dump(inbound.flow, inbound.forwardedHost)),
      outbound: [...this.#outbound].flatMap((outbound) =>
        dump(outbound.flow, formatSocketAddress(outbound.destination)),
      ),
    };
  }

  /** Calls back when every socket and the namespace are closed. */
  stop(mode: StopMode, deadlineMs: number, onClosed: () => void): void {
    const before = this.#onClosed;
    this.#onClosed = () => {
      before();
      onClosed();
    };
    if (this.#state === "closed") return this.#onClosed();
    this.#state = "draining";
    for (const listener of this.#listeners) listener.close();
    if (mode === "immediate") return this.#abortAll(drained());
    this.#dns?.drain(() => {
      this.#dns = undefined;
      this.#closeWhenIdle();
    });
    this.#pool?.drain();
    for (const server of [...this.#servers]) server.drain();
    this.context.reactor.after(deadlineMs, () => this.#abortAll(drainTimeout()));
    this.#closeWhenIdle();
  }

  #abortAll(error: MeshError): void {
    for (const outbound of [...this.#outbound]) outbound.abort(error);
    for (const inbound of [...this.#inbound]) inbound.abort(error);
    for (const server of [...this.#servers]) server.abort(error);
    this.#close();
  }

  #closeWhenIdle(): void {
    if (this.#state !== "draining") return;
    if (this.#dns !== undefined) return;
    if (this.#outbound.size === 0 && this.#inbound.size === 0 && this.#servers.size === 0) this.#close();
  }

  #close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    for (const listener of this.#listeners) listener.close();
    this.#dns?.close();
    this.#pool?.close(drained());
    this.#ports.close();
    this.#closeNamespace();
    this.#onClosed();
  }

  #openListeners(): void {
    const { ports } = this.context.settings;
    this.#listen(ports.inboundHbone, (connection) => this.#acceptHbone(connection));
    if (this.kind === "self") return;
    this.#listen(ports.outbound, (connection) => this.#acceptOutbound(connection));
    this.#listen(ports.inboundPlaintext, (connection) => this.#acceptPlaintext(connection));
  }

  #listen(port: number, accept: (connection: Connection) => void): void {
    const { reactor, settings, telemetry } = this.context;
    const transparent = settings.originalSource === true ? "required" : "try";
    const options: ListenOptions = {
      address: { ip: settings.ipv6 ? "::" : "0.0.0.0", port },
      reusePort: settings.reusePort,
      ...(settings.originalSource === false ? {} : { transparent }),
      ...(this.namespace === undefined ? {} : { namespace: this.namespace }),
      ...(settings.packetMark === undefined ? {} : { mark: settings.packetMark }),
      // HBONE connections are watched by PING instead.
      ...(settings.keepAlive === undefined || port === settings.ports.inboundHbone
        ? {}
        : { keepAlive: settings.keepAlive }),
    };
    this.#listeners.push(
      reactor.listen(options, { onAccept: accept, onAcceptError: () => telemetry.count("accept_errors") }),
    );
  }

  #acceptOutbound(client: Connection): void {
    if (!this.#take(client.peer, "outbound", client.local)) return client.reset();
    const outbound = new OutboundConnection(this, client);
    this.#outbound.add(outbound);
    outbound.start();
  }

  #acceptPlaintext(client: Connection): void {
    if (!this.#take(client.peer, "inbound", client.local)) return client.reset();
    new InboundPlaintext(this, client).start();
  }

  #acceptHbone(connection: Connection): void {
    const source = connection.peer.ip;
    const refused = this.admission.enter(source);
    if (refused !== undefined) {
      this.context.telemetry.count(`connections_refused:unauthenticated_${refused}`);
      const error = limitReached(`too many unauthenticated connections of this ${refused}`);
      this.logFailure("inbound", connection.peer, connection.local, error);
      return connection.reset();
    }
    const server = new HboneAccept(this, connection);
    this.#servers.add(server);
    server.start();
  }

  #take(source: SocketAddress, direction: "inbound" | "outbound", destination: SocketAddress): boolean {
    if (this.budget.takeConnection()) return true;
    const { telemetry, settings } = this.context;
    telemetry.count("connections_refused:pod_connections");
    const limit = settings.limits.connectionsPerPod;
    this.logFailure(
      direction,
      source,
      destination,
      limitReached(`the pod has ${limit} connections, as many as it may`),
    );
    return false;
  }
}

function dump(flow: Flow | undefined, originalDst: string | null) {
  if (flow === undefined) return [];
  const { source, destination, mutualTls, direction, authority } = flow.facts;
  const actual = direction === "inbound" && authority !== undefined ? authority : formatSocketAddress(destination);
  return [
    {
      src: formatSocketAddress(source),
      originalDst,
      actualDst: actual,
      protocol: mutualTls ? "HBONE" : "TCP",
    } as const,
  ];
}
