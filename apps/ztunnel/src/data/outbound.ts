import { formatIdentity, formatSocketAddress, type MeshError, type SocketAddress } from "@tulle/base";
import {
  buildBaggage,
  buildForwarded,
  newTraceparent,
  type OutboundDecision,
  resolveOutbound,
  type Workload,
  workloadIdentity,
} from "@tulle/mesh";
import { type OutgoingTunnel, type RelayEnd, relayPlain, type TunnelHandler } from "@tulle/hbone";
import type { Connection, ConnectionHandler } from "@tulle/reactor";
import { connectFailed, failure, limitReached, mayTryAnother, unknownLocalWorkload } from "./failures.ts";
import { Flow, type FlowFacts, labelsOf } from "./flow.ts";
import type { IdentityWaiter, SessionFactory } from "./identity-store.ts";
import { namesForAddress } from "./on-demand.ts";
import { PARKED } from "./parked.ts";
import type { PodProxy } from "./pod-proxy.ts";
import type { Waiting } from "./waiters.ts";

/** Endpoints that are tried for one connection before its first byte, the first one included. */
export const MAX_ATTEMPTS = 3;

/** A decision that leads to a connection. */
type Route = Extract<OutboundDecision, { kind: "hbone" | "tcp" | "passthrough" }>;

/**
 * One connection that the pod has opened and that was captured on 15001 (spec: l4-ztunnel §3): decide, connect (again, on
 * another endpoint, if nothing was sent yet), relay. It owns the client's connection until the relay does.
 */
export class OutboundConnection implements Waiting, IdentityWaiter, TunnelHandler, ConnectionHandler {
  readonly #proxy: PodProxy;
  readonly #client: Connection;
  readonly #startedAt: number;
  readonly #excluded = new Set<string>();
  #destination: SocketAddress = { ip: "", port: 0 };
  #local: Workload | undefined;
  #route: Route | undefined;
  #attempts = 0;
  #tunnel: OutgoingTunnel | undefined;
  #upstream: Connection | undefined;
  #waitingFor: MeshError | undefined;
  #lastError: MeshError | undefined;
  #flow: Flow | undefined;
  #over = false;

  constructor(proxy: PodProxy, client: Connection) {
    this.#proxy = proxy;
    this.#client = client;
    this.#startedAt = proxy.context.reactor.now();
    client.setHandler(PARKED);
  }

  start(): void {
    this.#destination = this.#client.originalDestination();
    this.#decideOrWait();
  }

  /** The pod is gone or the proxy ends: cuts the connection wherever it stands. */
  abort(error: MeshError): void {
    if (this.#over) return;
    if (this.#flow?.relay !== undefined) this.#flow.relay.abort(error);
    else this.#fail(error);
  }

  get flow(): Flow | undefined {
    return this.#flow;
  }

  /** Where the application wanted to go. */
  get destination(): SocketAddress {
    return this.#destination;
  }

  // === Waiting: the control plane has not said yet what this is

  retry(): boolean {
    return this.#over || this.#decide();
  }

  expire(): void {
    const error = this.#waitingFor ?? unknownLocalWorkload(this.#proxy.workload);
    if (error.code === "UNKNOWN_WAYPOINT") this.#count("connections_refused:unknown_waypoint");
    else if (error.code === "UNKNOWN_MESH_ADDRESS") this.#count("connections_refused:unknown_destination");
    this.#fail(error);
  }

  // === IdentityWaiter

  onIdentity(_context: SessionFactory): void {
    this.#connect();
  }

  onIdentityFailed(reason: string): void {
    this.#fail(failure("IDENTITY_ERROR", "internal", reason));
  }

  // === TunnelHandler: HBONE

  onEstablished(tunnel: OutgoingTunnel): void {
    this.#relayFrom((onEnd) => tunnel.relay(this.#client, onEnd));
  }

  onFailed(tunnel: OutgoingTunnel, error: MeshError): void {
    this.#tunnel = undefined;
    this.#tryAnother(error, tunnel.status);
  }

  // === ConnectionHandler: the plaintext upstream while it connects

  onConnected(upstream: Connection, error: number): void {
    this.#upstream = undefined;
    if (error !== 0) return this.#tryAnother(connectFailed(error), undefined);
    this.#relayFrom((onEnd) => relayPlain(this.#client, upstream, { onEnd, budget: this.#proxy.budget }));
  }

  onReadable(): void {}
  onWritable(): void {}

  #decideOrWait(): void {
    if (this.#decide() || this.#proxy.context.waiters.add(this)) return;
    this.#fail(limitReached("too many connections wait for the control plane"));
  }

  /** False: nothing is decided until the mesh's state changes. */
  #decide(): boolean {
    const { context } = this.#proxy;
    this.#local = this.#proxy.localWorkload();
    if (this.#local === undefined) {
      this.#waitingFor = unknownLocalWorkload(this.#proxy.workload);
      return false;
    }
    const { ip } = this.#destination;
    const { network } = context.settings;
    if (context.onDemand?.known(namesForAddress(context.state, network, ip, this.#local)) === false) {
      const text = `the control plane has not said yet what ${formatSocketAddress(this.#destination)} is`;
      this.#waitingFor = failure("NOT_SYNCED", "internal", text);
      return false;
    }
    return this.#follow(
      resolveOutbound(context.state, {
        source: this.#local,
        sourceIp: this.#client.peer.ip,
        destination: this.#destination,
        network,
        meshCidrs: context.meshCidrs,
        random: () => context.reactor.random(),
        exclude: this.#excluded,
      }),
    );
  }

  #follow(decision: OutboundDecision): boolean {
    switch (decision.kind) {
      case "wait":
        this.#waitingFor = failure(decision.refusal.code, "internal", decision.refusal.message);
        return false;
      case "refuse":
        this.#fail(this.#lastError ?? failure(decision.code, "upstream", decision.message));
        return true;
      case "dns":
        this.#proxy.context.telemetry.onDemandDns(this.#local && labelsOf(this.#local), decision.hostname);
        this.#proxy.context.lookup(decision.hostname, decision.family, (answer) => {
          if (!this.#over) this.#follow(decision.complete(answer));
        });
        return true;
      default:
        this.#route = decision;
        this.#connect();
        return true;
    }
  }

  #connect(): void {
    if (this.#over || this.#route === undefined) return;
    this.#attempts++;
    if (this.#route.kind === "hbone") this.#openTunnel(this.#route);
    else this.#dial(this.#route.connect);
  }

  #openTunnel(route: Extract<Route, { kind: "hbone" }>): void {
    const { context } = this.#proxy;
    const local = this.#local as Workload;
    const identity = formatIdentity(workloadIdentity(local));
    if (context.identities.get(identity) === undefined) {
      this.#attempts--;
      if (context.identities.wait(identity, this)) return;
      return this.#fail(limitReached("too many handshakes wait for a certificate"));
    }
    this.#tunnel = this.#proxy.pool().open(
      { source: identity, destinations: route.identities, address: route.connect, sourceIp: this.#client.peer.ip },
      {
        authority: route.authority,
        headers: [
          ["baggage", buildBaggage(local)],
          ["forwarded", buildForwarded(this.#client.peer, route.service?.hostname)],
          ["traceparent", newTraceparent(() => context.reactor.random())],
        ],
      },
      this,
    );
  }

  #dial(address: SocketAddress): void {
    this.#upstream = this.#proxy.connect({ address }, this);
  }

  #tryAnother(error: MeshError, status: number | undefined): void {
    const route = this.#route;
    if (
      this.#attempts < MAX_ATTEMPTS &&
      route !== undefined &&
      this.#isOutdated(route) &&
      mayTryAnother(error, status)
    ) {
      this.#lastError = error;
      this.#count("connect_retries");
      return this.#decideOrWait();
    }
    const fixed = route === undefined || route.kind === "passthrough" || !hasOtherEndpoints(route);
    if (fixed || this.#attempts >= MAX_ATTEMPTS || !mayTryAnother(error, status)) return this.#fail(error);
    this.#lastError = error;
    this.#excluded.add(route.workload.uid);
    this.#count("connect_retries");
    this.#decideOrWait();
  }

  /** The workload has changed since: it may have joined or left the mesh while it was being connected to. */
  #isOutdated(route: Route): boolean {
    if (route.kind === "passthrough") return false;
    const now = this.#proxy.context.state.workload(route.workload.uid);
    return now !== undefined && now !== route.workload;
  }

  #relayFrom(start: (onEnd: RelayEnd) => Flow["relay"]): void {
    const flow = this.#openFlow();
    flow.relay = start((_relay, error) => {
      this.#over = true;
      flow.close(error);
      this.#proxy.forgetOutbound(this);
    });
  }

  #fail(error: MeshError): void {
    if (this.#over) return;
    this.#over = true;
    const { context } = this.#proxy;
    context.waiters.remove(this);
    if (this.#local !== undefined) context.identities.cancel(formatIdentity(workloadIdentity(this.#local)), this);
    this.#tunnel?.cancel();
    this.#upstream?.reset();
    this.#client.reset();
    if (this.#route !== undefined) this.#openFlow().close(error);
    else this.#proxy.logFailure("outbound", this.#client.peer, this.#destination, error);
    this.#proxy.forgetOutbound(this);
  }

  #openFlow(): Flow {
    const { telemetry, reactor } = this.#proxy.context;
    this.#flow ??= new Flow(this.#facts(), telemetry, () => reactor.now(), this.#startedAt);
    return this.#flow;
  }

  #facts(): FlowFacts {
    const route = this.#route as Route;
    const hbone = route.kind === "hbone" ? route : undefined;
    return {
      direction: "outbound",
      source: this.#client.peer,
      sourceWorkload: this.#local,
      sourceIdentity: hbone === undefined || this.#local === undefined ? undefined : workloadIdentity(this.#local),
      destination: route.connect,
      authority: hbone?.authority,
      service: route.service,
      destinationWorkload: route.kind === "passthrough" ? undefined : route.workload,
      mutualTls: hbone !== undefined,
    };
  }

  #count(counter: Parameters<PodProxy["context"]["telemetry"]["count"]>[0]): void {
    this.#proxy.context.telemetry.count(counter);
  }
}

/** Only a service, or a waypoint, may have another endpoint; a pod's own address has not. */
function hasOtherEndpoints(route: Exclude<Route, { kind: "passthrough" }>): boolean {
  return route.service !== undefined || (route.kind === "hbone" && route.viaWaypoint !== undefined);
}
