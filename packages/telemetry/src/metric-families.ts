/** What Tulle measures: names, help texts, units and labels (spec: l4-ztunnel §9.3), in the order in which they are printed. */

export type MetricType = "counter" | "gauge" | "histogram";

export interface Family {
  /** Without `_total`, with the unit. */
  readonly name: string;
  /** As printed, full stop included. */
  readonly help: string;
  readonly type: MetricType;
  readonly unit?: "bytes" | "seconds";
  /** Upper bounds of a histogram, ascending, without +Inf. */
  readonly buckets?: readonly number[];
  /** Where the family's first number is among the numbers of one series. */
  readonly cell: number;
}

/** Families that share one set of labels: a series of a schema holds the numbers of all of its families. */
export interface Schema {
  readonly id: number;
  readonly labels: readonly string[];
  readonly families: readonly Family[];
  /** How many numbers a series holds. */
  readonly cells: number;
}

type Draft = Omit<Family, "cell">;

const schemas: Schema[] = [];

function schema(labels: readonly string[], drafts: readonly Draft[]): Schema {
  let cells = 0;
  const families = drafts.map((draft) => {
    const family = { ...draft, cell: cells };
    // A histogram holds a count for each bucket, one for +Inf, and the sum.
    cells += draft.type === "histogram" ? (draft.buckets?.length ?? 0) + 2 : 1;
    return family;
  });
  const made = { id: schemas.length, labels, families, cells };
  schemas.push(made);
  return made;
}

const counter = (name: string, help: string, unit?: "bytes" | "seconds"): Draft => ({
  name,
  help,
  type: "counter",
  ...(unit && { unit }),
});
const gauge = (name: string, help: string): Draft => ({ name, help, type: "gauge" });

const SOURCE_LABELS = [
  "source_workload",
  "source_canonical_service",
  "source_canonical_revision",
  "source_workload_namespace",
  "source_principal",
  "source_app",
  "source_version",
  "source_cluster",
];

/** The common labels, in order; the last four are optional. */
export const TCP_LABELS: readonly string[] = [
  "reporter",
  ...SOURCE_LABELS,
  "destination_service",
  "destination_service_namespace",
  "destination_service_name",
  "destination_workload",
  "destination_canonical_service",
  "destination_canonical_revision",
  "destination_workload_namespace",
  "destination_principal",
  "destination_app",
  "destination_version",
  "destination_cluster",
  "request_protocol",
  "response_flags",
  "connection_security_policy",
  "source_region",
  "source_zone",
  "destination_region",
  "destination_zone",
];

export const BUILD = schema(["component", "tag"], [gauge("istio_build", "Istio component build info.")]);

export const XDS_TERMINATIONS = schema(
  ["reason"],
  [counter("istio_xds_connection_terminations", "The total number of completed connections to xds server (unstable).")],
);

export const XDS_MESSAGES = schema(
  ["url"],
  [
    counter("istio_xds_message", "Total number of messages received (unstable)."),
    counter("istio_xds_message_bytes", "Total number of bytes received (unstable).", "bytes"),
  ],
);

export const TCP = schema(TCP_LABELS, [
  counter("istio_tcp_connections_opened", "The total number of TCP connections opened."),
  counter("istio_tcp_connections_closed", "The total number of TCP connections closed."),
  counter("istio_tcp_received_bytes", "The size of total bytes received during request in case of a TCP connection."),
  counter("istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection."),
  counter("istio_tcp_connections_failed", "The total number of TCP connections that failed to establish (unstable)."),
]);
/** Numbers of a TCP series, in the order of its families. */
export const TCP_OPENED = 0;
export const TCP_CLOSED = 1;
export const TCP_RECEIVED = 2;
export const TCP_SENT = 3;
export const TCP_FAILED = 4;

export const TCP_SOCKETS = schema(
  ["reporter"],
  [gauge("istio_tcp_sockets_open", "The current number of open TCP sockets (unstable).")],
);

export const ON_DEMAND_DNS = schema(
  [...SOURCE_LABELS, "hostname"],
  [counter("istio_on_demand_dns", "The total number of requests that used on-demand DNS (unstable).")],
);

const DNS_LABELS = ["request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision"];
export const DNS_BUCKETS: readonly number[] = [0.0005, 0.001, 0.01, 0.1, 1, 5];

export const DNS = schema(DNS_LABELS, [
  counter("istio_dns_requests", "Total number of DNS requests (unstable)."),
  counter("istio_dns_upstream_requests", "Total number of DNS requests forwarded to upstream (unstable)."),
  counter("istio_dns_upstream_failures", "Total number of DNS failures from upstream (unstable)."),
  {
    name: "istio_dns_upstream_request_duration_seconds",
    help: "Total time in seconds Istio takes to get DNS response from upstream (unstable).",
    type: "histogram",
    unit: "seconds",
    buckets: DNS_BUCKETS,
  },
]);
/** Numbers of a DNS series. */
export const DNS_REQUESTS = 0;
export const DNS_UPSTREAM_REQUESTS = 1;
export const DNS_UPSTREAM_FAILURES = 2;
export const DNS_DURATION = 3;

export const WORKLOAD_MANAGER = schema(
  [],
  [
    gauge("workload_manager_active_proxy_count", "The total number current workloads with active proxies (unstable)."),
    gauge(
      "workload_manager_pending_proxy_count",
      "The total number current workloads with pending proxies (unstable).",
    ),
    counter("workload_manager_proxies_started", "The total number of proxies that were started (unstable)."),
    counter("workload_manager_proxies_stopped", "The total number of proxies that were stopped (unstable)."),
  ],
);

export const TULLE = schema(
  [],
  [
    counter("tulle_connect_retries", "Connects that were tried again on another endpoint."),
    counter("tulle_connections_closed_by_policy", "Open connections that were cut because a policy changed."),
    counter("tulle_pool_connections_dropped", "Pooled connections dropped because their address changed hands."),
    counter("tulle_handler_faults", "Event handlers that threw; each reset its own connection."),
    counter("tulle_accept_errors", "Connections that the kernel could not hand over."),
    gauge("tulle_pool_connections", "Outbound HBONE connections that are open."),
    gauge("tulle_pool_tunnels", "Tunnels that are open on outbound HBONE connections."),
    gauge("tulle_unauthenticated_connections", "Inbound connections that have not authenticated yet."),
    gauge("tulle_buffered_bytes", "Bytes that are buffered for slow readers."),
  ],
);

export const TULLE_REFUSED = schema(
  ["reason"],
  [counter("tulle_connections_refused", "Connections that a limit or a missing object refused.")],
);

export const TULLE_DROPPED = schema(
  ["thread"],
  [
    counter("tulle_log_lines_dropped", "Log lines that found no room."),
    counter(
      "tulle_metric_series_overflowed",
      "Connections and queries counted as overflow, because the table of series was full.",
    ),
  ],
);

export const SCHEMAS: readonly Schema[] = schemas;
