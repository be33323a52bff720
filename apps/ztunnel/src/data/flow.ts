import { formatIdentity, formatSocketAddress, type Identity, type MeshError, type SocketAddress } from "@tulle/base";
import type { Relay } from "@tulle/hbone";
import { type Service, type Workload, workloadIdentity } from "@tulle/mesh";
import type { AccessRecord, DataTelemetry, OpenConnection, PeerLabels } from "@tulle/telemetry";
import { flagOf } from "./failures.ts";

/** What is known of one proxied connection, for its metrics, its log line and the connection dump. */
export interface FlowFacts {
  readonly direction: "inbound" | "outbound";
  readonly source: SocketAddress;
  readonly sourceWorkload: Workload | undefined;
  /** Labels of a source that is known from its baggage alone. */
  readonly sourceLabels?: PeerLabels | undefined;
  /** From TLS only. */
  readonly sourceIdentity: Identity | undefined;
  /** What is connected to, e.g. `pod:15008`. */
  readonly destination: SocketAddress;
  /** Authority of the CONNECT. */
  readonly authority: string | undefined;
  readonly service: Service | undefined;
  /** The service's hostname where the service itself is not known. */
  readonly serviceName?: string | undefined;
  readonly destinationWorkload: Workload | undefined;
  readonly mutualTls: boolean;
}

/** One connection between being decided and being over. `close` may be called several times; the first one counts. */
export class Flow {
  readonly facts: FlowFacts;
  relay: Relay | undefined;
  readonly #telemetry: DataTelemetry;
  readonly #counted: OpenConnection;
  readonly #startedAt: number;
  readonly #now: () => number;
  #closed = false;

  /** `startedAt`: when the client's connection was accepted, by `now`. */
  constructor(facts: FlowFacts, telemetry: DataTelemetry, now: () => number, startedAt: number) {
    this.facts = facts;
    this.#telemetry = telemetry;
    this.#now = now;
    this.#startedAt = startedAt;
    const destination = facts.destinationWorkload;
    this.#counted = telemetry.connectionOpened({
      reporter: facts.direction === "inbound" ? "destination" : "source",
      source: sourceLabels(facts),
      sourcePrincipal:
        facts.mutualTls && facts.sourceIdentity !== undefined ? formatIdentity(facts.sourceIdentity) : undefined,
      service: facts.service,
      destination: destination === undefined ? undefined : labelsOf(destination),
      destinationPrincipal: destination === undefined ? undefined : formatIdentity(workloadIdentity(destination)),
      security: facts.mutualTls ? "mutual_tls" : "unknown",
    });
    if (telemetry.accessLogEnabled("opened", false)) this.#log("opened", undefined);
  }

  /** Bytes that the client has sent so far, on either kind of relay. */
  get fromClient(): number {
    return (this.facts.direction === "outbound" ? this.relay?.sent : this.relay?.received) ?? 0;
  }

  get fromServer(): number {
    return (this.facts.direction === "outbound" ? this.relay?.received : this.relay?.sent) ?? 0;
  }

  /** Brings the byte counters up to date. */
  progress(): void {
    if (!this.#closed && this.relay !== undefined) this.#counted.progress(this.fromClient, this.fromServer);
  }

  close(error: MeshError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#counted.closed(flagOf(error), this.fromClient, this.fromServer);
    if (this.#telemetry.accessLogEnabled("complete", error !== undefined)) this.#log("complete", error);
  }

  #log(event: "opened" | "complete", error: MeshError | undefined): void {
    const { facts } = this;
    const { sourceWorkload, destinationWorkload } = facts;
    const baggage = facts.sourceLabels;
    const record: AccessRecord = {
      event,
      direction: facts.direction,
      sourceAddress: formatSocketAddress(facts.source),
      sourceWorkload: sourceWorkload?.name ?? baggage?.workload,
      sourceNamespace: sourceWorkload?.namespace ?? baggage?.namespace,
      sourceIdentity:
        facts.mutualTls && facts.sourceIdentity !== undefined ? formatIdentity(facts.sourceIdentity) : undefined,
      sourceCluster: sourceWorkload?.clusterId ?? baggage?.cluster,
      destinationAddress: formatSocketAddress(facts.destination),
      hboneAddress: facts.authority,
      destinationService: facts.service?.hostname ?? facts.serviceName,
      destinationWorkload: destinationWorkload?.name,
      destinationNamespace: destinationWorkload?.namespace,
      destinationIdentity:
        facts.mutualTls && destinationWorkload !== undefined
          ? formatIdentity(workloadIdentity(destinationWorkload))
          : undefined,
      destinationCluster: destinationWorkload?.clusterId,
      bytesFromClient: this.fromClient,
      bytesFromServer: this.fromServer,
      durationMs: Math.round(this.#now() - this.#startedAt),
      error: error?.message,
    };
    // That a policy or a limit cut a connection must not be lost among ordinary lines.
    this.#telemetry.accessLog(record, error !== undefined && IMPORTANT.has(error.code));
  }
}

const IMPORTANT: ReadonlySet<string> = new Set(["POLICY_DENIED", "POLICY_CHANGED", "LIMIT_REACHED"]);

const labelsByWorkload = new WeakMap<Workload, PeerLabels>();

/** The labels of a workload: the same object for the same workload, as the label table wants it. */
export function labelsOf(workload: Workload): PeerLabels {
  let labels = labelsByWorkload.get(workload);
  if (labels === undefined) {
    labels = {
      workload: workload.workloadName,
      canonicalService: workload.canonicalName,
      canonicalRevision: workload.canonicalRevision,
      namespace: workload.namespace,
      cluster: workload.clusterId,
      region: workload.locality.region,
      zone: workload.locality.zone,
    };
    labelsByWorkload.set(workload, labels);
  }
  return labels;
}

function sourceLabels(facts: FlowFacts): PeerLabels | undefined {
  return facts.sourceWorkload === undefined ? facts.sourceLabels : labelsOf(facts.sourceWorkload);
}
