import type { MeshError, SocketAddress } from "@tulle/base";
import { relayPlain } from "@tulle/hbone";
import { authorize, inboundService, isIllegalPort, type Verdict, type Workload } from "@tulle/mesh";
import type { Connection, ConnectionHandler } from "@tulle/reactor";
import {
  connectFailed,
  failure,
  policyChange,
  policyRejection,
  RECURSIVE_CALL,
  unknownLocalWorkload,
} from "./failures.ts";
import { Flow } from "./flow.ts";
import { PARKED } from "./parked.ts";
import type { PodProxy } from "./pod-proxy.ts";
import type { Waiting } from "./waiters.ts";

/**
 * One plaintext connection to the pod that was captured on 15006 (spec: l4-ztunnel §4.2). Its peer has no identity: policy
 * judges it as the empty principal.
 */
export class InboundPlaintext implements Waiting, ConnectionHandler {
  readonly #proxy: PodProxy;
  readonly #client: Connection;
  readonly #startedAt: number;
  #destination: SocketAddress = { ip: "", port: 0 };
  #local: Workload | undefined;
  #application: Connection | undefined;
  #missing: string | undefined;
  #registered = false;
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
    if (isIllegalPort(this.#destination.port)) {
      return this.#end(failure("RECURSIVE_CALL", "downstream", RECURSIVE_CALL));
    }
    if (this.#decide() || this.#proxy.context.waiters.add(this)) return;
    this.#end(failure("LIMIT_REACHED", "internal", "too many connections wait for the control plane"));
  }

  get flow(): Flow | undefined {
    return this.#flow;
  }

  get forwardedHost(): string | null {
    return null;
  }

  abort(error: MeshError): void {
    if (this.#over) return;
    if (this.#flow?.relay !== undefined) this.#flow.relay.abort(error);
    else this.#end(error);
  }

  reevaluate(local: Workload): void {
    if (this.#over || !this.#registered || this.#missing !== undefined) return;
    if (this.#authorize(local).kind !== "denied") return;
    this.#proxy.context.telemetry.count("connections_closed_by_policy");
    this.abort(policyChange());
  }

  // === Waiting

  retry(): boolean {
    return this.#over || this.#decide();
  }

  expire(): void {
    if (this.#local === undefined) return this.#end(unknownLocalWorkload(this.#proxy.workload));
    this.#proxy.context.telemetry.count("connections_refused:missing_policy");
    this.#end(policyRejection(this.#missing ?? ""));
  }

  // === ConnectionHandler: the application, while it connects

  onConnected(application: Connection, error: number): void {
    this.#application = undefined;
    if (error !== 0) return this.#end(connectFailed(error));
    const flow = this.#openFlow();
    // `sent` counts what the first connection gives: here the first one is the application, as with a tunnel.
    flow.relay = relayPlain(application, this.#client, {
      onEnd: (_relay, error) => this.#end(error),
      budget: this.#proxy.budget,
    });
  }

  onReadable(): void {}
  onWritable(): void {}

  /** False: wait for the mesh's state to change. */
  #decide(): boolean {
    this.#local = this.#proxy.localWorkload();
    if (this.#local === undefined) return false;
    if (!this.#registered) {
      this.#registered = true;
      this.#proxy.trackInbound(this);
    }
    const verdict = this.#authorize(this.#local);
    this.#missing = verdict.kind === "wait" ? verdict.reason : undefined;
    if (verdict.kind === "wait") return false;
    if (verdict.kind === "denied") this.#end(policyRejection(verdict.reason));
    else this.#application = this.#proxy.connectToApplication(this.#destination, this.#client.peer.ip, this);
    return true;
  }

  #authorize(local: Workload): Verdict {
    const verdict = authorize(this.#proxy.context.state, {
      identity: undefined,
      source: this.#client.peer,
      destination: this.#destination,
      local,
    });
    this.#proxy.logDryRun(verdict.dryRun);
    return verdict;
  }

  #end(error: MeshError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#proxy.context.waiters.remove(this);
    this.#application?.reset();
    if (this.#flow?.relay === undefined) this.#client.reset();
    this.#openFlow().close(error);
    this.#proxy.forgetInbound(this);
  }

  #openFlow(): Flow {
    const { telemetry, reactor, state, settings } = this.#proxy.context;
    this.#flow ??= new Flow(
      {
        direction: "inbound",
        source: this.#client.peer,
        sourceWorkload: state.workloadByIp(settings.network, this.#client.peer.ip),
        sourceIdentity: undefined,
        destination: this.#destination,
        authority: undefined,
        service: this.#local && inboundService(state, this.#local, this.#destination.port, undefined),
        destinationWorkload: this.#local ?? this.#proxy.localWorkload(),
        mutualTls: false,
      },
      telemetry,
      () => reactor.now(),
      this.#startedAt,
    );
    return this.#flow;
  }
}
