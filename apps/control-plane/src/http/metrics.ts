import { ADDRESS_TYPE, AUTHORIZATION_TYPE, WORKLOAD_TYPE } from "@tulle/api";
import type { MeshSizes } from "@tulle/mesh/convert";
import type { CaOutcome } from "@tulle/pki";
import type { AdsObserver } from "@tulle/xds";
import { MetricSet } from "./metric-set.ts";

/** What is measured, under istiod's names where it has them (control-plane.md §9.2); `tulle_` is our own. */

export interface MetricSources {
  readonly version: string;
  readonly sizes: () => MeshSizes;
  readonly streams: () => number;
  readonly connectedZtunnels: () => number;
  readonly leavingPods: () => number;
  /** Certificates that end: `root`, and what signs leaves. Milliseconds since the epoch. */
  readonly rootExpiry: () => number;
  readonly chainExpiry: () => number;
  readonly synced: () => boolean;
  /** Kinds of objects that cannot be followed at the moment. */
  readonly watchProblems: () => readonly { readonly kind: string }[];
}

export interface Metrics {
  readonly set: MetricSet;
  readonly ads: AdsObserver;
  readonly onNack: (typeUrl: string) => void;
  readonly onOutcome: (outcome: CaOutcome) => void;
  /** A change of the mesh was served. Milliseconds. */
  readonly onFlushed: (flush: { readonly waitedMs: number; readonly tookMs: number }) => void;
  readonly onEvent: (kind: string) => void;
  /** A resource could not be encoded. */
  readonly onLeftOut: (kind: string) => void;
  readonly onConnectionRefused: (limit: string) => void;
}

const SHORT_NAMES: Readonly<Record<string, string>> = {
  [ADDRESS_TYPE]: "wds",
  [WORKLOAD_TYPE]: "wds",
  [AUTHORIZATION_TYPE]: "wads",
};
/** Seconds. */
const CONVERGENCE_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 5, 10, 30];
const FLUSH_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5];
const SIZE_BUCKETS = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

export function createMetrics(sources: MetricSources): Metrics {
  const set = new MetricSet();
  set.gauge("istio_build", "Istio component build info", () => [
    { labels: { component: "pilot", tag: sources.version }, value: 1 },
  ]);
  set.gauge("pilot_info", "Pilot version and build information.", () => [
    { labels: { version: sources.version }, value: 1 },
  ]);
  set.gauge("pilot_xds", "Number of endpoints connected to this pilot using XDS.", () => [
    { labels: { version: sources.version }, value: sources.streams() },
  ]);
  const pushes = set.counter("pilot_xds_pushes", "Responses that were sent to proxies, by type.");
  const sizes = set.histogram(
    "pilot_xds_config_size_bytes",
    "Distribution of configuration sizes pushed to clients.",
    SIZE_BUCKETS,
  );
  const convergence = set.histogram(
    "pilot_proxy_convergence_time",
    "Delay in seconds between config change and a proxy receiving all required configuration.",
    CONVERGENCE_BUCKETS,
  );
  const queued = set.histogram(
    "pilot_proxy_queue_time",
    "Time in seconds, a proxy is in the push queue before being dequeued.",
    CONVERGENCE_BUCKETS,
  );
  const pushed = set.histogram(
    "pilot_xds_push_time",
    "Seconds that making a push and handing it to the transport takes, by type.",
    FLUSH_BUCKETS,
  );
  const triggers = set.counter("pilot_push_triggers", "Total number of times a push was triggered, labeled by reason.");
  const debounce = set.histogram(
    "pilot_debounce_time",
    "Delay in seconds between the first config enters debouncing and the merged push request is pushed.",
    FLUSH_BUCKETS,
  );
  const push = set.histogram(
    "pilot_pushcontext_init_seconds",
    "Seconds that computing and encoding a change of the mesh takes.",
    FLUSH_BUCKETS,
  );
  const updates = set.counter("pilot_inbound_updates", "Total number of updates received by pilot.");
  const rejects = set.counter("pilot_total_xds_rejects", "Total number of XDS responses from pilot rejected by proxy.");
  const refused = set.counter("pilot_total_xds_internal_errors", "Discovery streams that were refused, by code.");
  const leftOut = set.counter("tulle_unencodable_resources_total", "Resources that could not be encoded, by kind.");
  set.gauge("pilot_services", "Total services known to pilot.", () => sources.sizes().resources.service);
  meshGauges(set, sources);
  return {
    set,
    ads: {
      onSent: (typeUrl, bytes) => {
        const type = shortName(typeUrl);
        pushes.add({ type });
        sizes.observe(bytes, { type });
      },
      onPushed: ({ typeUrl, queuedMs, tookMs }) => {
        queued.observe(queuedMs / 1000);
        pushed.observe(tookMs / 1000, { type: shortName(typeUrl) });
      },
      // Who has refused something has not come to hold it.
      onAck: (_, { tookMs, accepted }) => {
        if (accepted) convergence.observe(tookMs / 1000);
      },
      onRefused: (code) => refused.add({ code }),
    },
    onNack: (typeUrl) => rejects.add({ type: shortName(typeUrl) }),
    onOutcome: certificateCounters(set, sources),
    onFlushed: ({ waitedMs, tookMs }) => {
      debounce.observe(waitedMs / 1000);
      push.observe(tookMs / 1000);
    },
    onEvent: (kind) => {
      triggers.add({ type: kind.toLowerCase() });
      updates.add({ type: kind === "Service" || kind === "Pod" || kind === "EndpointSlice" ? "eds" : "config" });
    },
    onLeftOut: (kind) => leftOut.add({ kind }),
    onConnectionRefused: connectionCounter(set),
  };
}

function meshGauges(set: MetricSet, sources: MetricSources): void {
  const { sizes, connectedZtunnels, leavingPods, synced, watchProblems } = sources;
  const resources = () => sizes().resources;
  set.gauge("tulle_mesh_workloads", "Workloads that node proxies are told of.", () => resources().workload);
  set.gauge("tulle_mesh_services", "Services that node proxies are told of.", () => resources().service);
  set.gauge("tulle_mesh_policies", "Policies that node proxies are told of.", () => resources().policy);
  set.gauge("tulle_objects", "Objects that the mesh is computed from.", () =>
    Object.entries(sizes().objects).map(([kind, value]) => ({ labels: { kind }, value })),
  );
  set.gauge("tulle_connected_ztunnels", "Node proxies that are connected.", connectedZtunnels);
  set.gauge("tulle_leaving_pods", "Pods that leave the mesh and are waited for.", leavingPods);
  set.gauge("tulle_watch_problems", "Kinds of objects that cannot be followed now; what was known stays.", () =>
    watchProblems().map(({ kind }) => ({ labels: { kind }, value: 1 })),
  );
  set.gauge("tulle_synced", "Whether the first state of every kind of objects is known.", () => Number(synced()));
}

function certificateCounters(set: MetricSet, sources: MetricSources): (outcome: CaOutcome) => void {
  const counter = (name: string, help: string) => set.counter(`citadel_server_${name}`, help, [{}]);
  const requests = counter("csr_count", "The number of CSRs received by Citadel server.");
  const badRequests = counter("csr_parsing_err_count", "The number of errors occurred when parsing the CSR.");
  const notSigned = counter("csr_sign_err_count", "The number of errors occurred when signing the CSR.");
  const refused = counter("id_extraction_err_count", "The number of refused identities.");
  const unauthenticated = counter("authentication_failure_count", "The number of authentication failures.");
  const issued = counter("success_cert_issuance_count", "The number of certificates issuances that have succeeded.");
  const seconds = (name: string, help: string, read: () => number) => {
    set.gauge(`citadel_server_${name}_timestamp`, `${help}, in Unix seconds.`, () => Math.floor(read() / 1000));
    set.gauge(`citadel_server_${name}_seconds`, `${help}, in seconds from now.`, () => {
      return Math.floor((read() - Date.now()) / 1000);
    });
  };
  seconds("root_cert_expiry", "When the root of the mesh expires", sources.rootExpiry);
  seconds("cert_chain_expiry", "When the signing certificate's chain expires", sources.chainExpiry);
  const counters: Readonly<Record<CaOutcome, { add(): void } | undefined>> = {
    issued,
    unauthenticated,
    "bad-csr": badRequests,
    refused,
    "not-signed": notSigned,
    overload: undefined,
  };
  return (outcome) => {
    requests.add();
    counters[outcome]?.add();
  };
}

function connectionCounter(set: MetricSet): (limit: string) => void {
  const refused = set.counter("tulle_connections_refused", "Connections that a limit has closed, by limit.");
  return (limit) => refused.add({ limit });
}

function shortName(typeUrl: string): string {
  return SHORT_NAMES[typeUrl] ?? "other";
}
