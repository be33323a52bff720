import { formatSocketAddress, type MeshError, type SocketAddress } from "@tulle/base";
import type { HeaderField, IncomingTunnel } from "@tulle/hbone";
import {
  authorize,
  buildBaggage,
  inboundService,
  parseBaggage,
  parseForwardedHost,
  resolveInbound,
  type Service,
  type Verdict,
  type Workload,
} from "@tulle/mesh";
import type { Connection, ConnectionHandler } from "@tulle/reactor";
import type { PeerLabels } from "@tulle/telemetry";
import { connectFailed, failure, policyChange, policyRejection, unknownLocalWorkload } from "./failures.ts";
import { Flow } from "./flow.ts";
import { namesForHost } from "./on-demand.ts";
import type { PodProxy } from "./pod-proxy.ts";
import type { Waiting } from "./waiters.ts";

/** Answers to a CONNECT (spec: l4-ztunnel §2.4). */
const BAD_REQUEST = 400;
const DENIED = 401;
const UNAVAILABLE = 503;

/**
 * One CONNECT stream that a peer has opened on 15008 (spec: l4-ztunnel §4.1): validate, register, authorize, connect to
 * the application with the peer's address, relay.
 */
export class InboundTunnel implements Waiting, ConnectionHandler {
  readonly #proxy: PodProxy;
  readonly #tunnel: IncomingTunnel;
  readonly #startedAt: number;
  #local: Workload | undefined;
  #target: SocketAddress | undefined;
  #application: Connection | undefined;
  #missing: string | undefined;
  #flow: Flow | undefined;
  #over = false;

  constructor(proxy: PodProxy, tunnel: IncomingTunnel) {
    this.#proxy = proxy;
    this.#tunnel = tunnel;
    this.#startedAt = proxy.context.reactor.now();
    tunnel.onCancelled = () =>
      this.#end(failure("CANCELLED", "downstream", "client disconnected before the connection was made"));
  }

  start(): void {
    if (this.#tunnel.method !== "CONNECT") {
      return this.#reject(
        BAD_REQUEST,
        failure("BAD_METHOD", "downstream", `expected method CONNECT, got ${this.#tunnel.method}`),
      );
    }
    if (this.#decide() || this.#proxy.context.waiters.add(this)) return;
    this.#reject(UNAVAILABLE, failure("LIMIT_REACHED", "internal", "too many connections wait for the control plane"));
  }

  get flow(): Flow | undefined {
    return this.#flow;
  }

  /** Host of the Forwarded header, for the connection dump. */
  get forwardedHost(): string | null {
    return parseForwardedHost(this.#tunnel.headers("forwarded")) ?? null;
  }

  abort(error: MeshError): void {
    if (this.#over) return;
    if (this.#flow?.relay !== undefined) this.#flow.relay.abort(error);
    else this.#reject(UNAVAILABLE, error);
  }

  /** Policy has changed: cuts the connection if it would be denied now. A missing policy does not cut a live one. */
  reevaluate(local: Workload): void {
    if (this.#over || this.#target === undefined || this.#missing !== undefined) return;
    if (this.#authorize(local, this.#target).kind !== "denied") return;
    this.#proxy.context.telemetry.count("connections_closed_by_policy");
    this.abort(policyChange());
  }

  // === Waiting

  retry(): boolean {
    return this.#over || this.#decide();
  }

  expire(): void {
    if (this.#local === undefined) {
      return this.#reject(UNAVAILABLE, unknownLocalWorkload(this.#proxy.workload));
    }
    if (this.#missing === undefined) {
      const text = `no service or workload for hostname: ${this.#tunnel.authority} (the control plane has not answered)`;
      return this.#reject(UNAVAILABLE, failure("UNKNOWN_HOSTNAME", "internal", text));
    }
    this.#proxy.context.telemetry.count("connections_refused:missing_policy");
    this.#reject(DENIED, policyRejection(this.#missing ?? ""));
  }

  // === ConnectionHandler: the application, while it connects

  onConnected(application: Connection, error: number): void {
    this.#application = undefined;
    if (error !== 0) return this.#reject(UNAVAILABLE, connectFailed(error));
    const flow = this.#openFlow();
    flow.relay = this.#tunnel.accept(this.#responseHeaders(), application, (_relay, error) => this.#end(error));
  }

  onReadable(): void {}
  onWritable(): void {}

  /** False: wait for the mesh's state to change. */
  #decide(): boolean {
    const { context } = this.#proxy;
    this.#local = this.#proxy.localWorkload();
    if (this.#local === undefined) return false;
    if (context.onDemand?.known(namesForHost(this.#local, this.#tunnel.authority)) === false) return false;
    if (this.#target === undefined) {
      const resolved = resolveInbound(context.state, {
        local: this.#local,
        authority: this.#tunnel.authority,
        connectionDestination: this.#tunnel.local,
        network: context.settings.network,
      });
      if (resolved.kind === "reject") {
        this.#reject(resolved.status, failure(resolved.code, "downstream", resolved.message));
        return true;
      }
      this.#target = resolved.target;
      // Before the decision, so that a policy that changes meanwhile is not missed.
      this.#proxy.trackInbound(this);
    }
    const verdict = this.#authorize(this.#local, this.#target);
    switch (verdict.kind) {
      case "wait":
        this.#missing = verdict.reason;
        return false;
      case "denied":
        this.#missing = undefined;
        this.#reject(DENIED, policyRejection(verdict.reason));
        return true;
      case "allowed":
        this.#missing = undefined;
        this.#application = this.#proxy.connectToApplication(this.#target, this.#tunnel.remote.ip, this);
        return true;
      default:
        verdict satisfies never;
        return true;
    }
  }

  #authorize(local: Workload, target: SocketAddress): Verdict {
    const { identity } = this.#tunnel.peer;
    const verdict = authorize(this.#proxy.context.state, {
      identity,
      source: this.#tunnel.remote,
      destination: target,
      local,
    });
    this.#proxy.logDryRun(verdict.dryRun);
    return verdict;
  }

  #responseHeaders(): HeaderField[] {
    if (!this.#proxy.context.settings.responseBaggage || this.#local === undefined) return [];
    return [["baggage", buildBaggage(this.#local)]];
  }

  #reject(status: number, error: MeshError): void {
    if (this.#over) return;
    this.#tunnel.reject(status);
    this.#end(error);
  }

  #end(error: MeshError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#proxy.context.waiters.remove(this);
    this.#application?.reset();
    this.#openFlow().close(error);
    this.#proxy.forgetInbound(this);
  }

  #openFlow(): Flow {
    if (this.#flow !== undefined) return this.#flow;
    const { telemetry, reactor, state, settings } = this.#proxy.context;
    const { peer, remote } = this.#tunnel;
    const source = state.workloadByIp(settings.network, remote.ip);
    this.#flow = new Flow(
      {
        direction: "inbound",
        source: remote,
        sourceWorkload: source,
        sourceLabels: source === undefined ? this.#labelsFromBaggage() : undefined,
        sourceIdentity: peer.identity,
        destination: this.#tunnel.local,
        authority: this.#tunnel.authority ?? (this.#target && formatSocketAddress(this.#target)),
        service: this.#service(),
        destinationWorkload: this.#local ?? this.#proxy.localWorkload(),
        mutualTls: true,
      },
      telemetry,
      () => reactor.now(),
      this.#startedAt,
    );
    return this.#flow;
  }

  /** The service that the client has named, if this pod belongs to it: a label, nothing more. */
  #service(): Service | undefined {
    if (this.#local === undefined || this.#target === undefined) return undefined;
    const host = this.forwardedHost ?? undefined;
    return inboundService(this.#proxy.context.state, this.#local, this.#target.port, host);
  }

  /** The client's own word: for labels only. */
  #labelsFromBaggage(): PeerLabels | undefined {
    if (!this.#proxy.context.settings.responseBaggage) return undefined;
    const baggage = parseBaggage(this.#tunnel.headers("baggage"));
    return {
      workload: baggage.workloadName,
      canonicalService: baggage.serviceName,
      canonicalRevision: baggage.serviceVersion,
      namespace: baggage.namespace,
      cluster: baggage.clusterName,
      region: baggage.region,
      zone: baggage.zone,
    };
  }
}
