import type { Log } from "@tulle/base";

/**
 * What a data thread says about its traffic. Nothing here allocates more than a line of text, waits, or throws: counters
 * go straight into shared memory that the main thread reads at scrape time, log lines go into a ring that drops when full.
 */
export interface DataTelemetry {
  /** Counts the connection as opened (response_flags "-") and as an open socket. Call `closed` on the result exactly once. */
  connectionOpened(labels: ConnectionLabels): OpenConnection;
  /**
   * Writes one access log line, if the level of scope `access` lets it through. `important` lines (a live connection was
   * cut by policy, a limit refused one) may use the space that ordinary lines must leave free.
   */
  accessLog(record: AccessRecord, important?: boolean): void;
  /** True when `accessLog` would write a record of this event; lets a caller skip building it. */
  accessLogEnabled(event: AccessEvent, failed: boolean): boolean;
  /** The thread's log for everything else. Warnings and errors count as important. */
  readonly log: Log;
  /** The DNS series of one client workload and query; cheap, may be called for every query. */
  dns(labels: DnsLabels): DnsSeries;
  /** Counts a connection whose destination address had to be looked up by name. */
  onDemandDns(source: PeerLabels | undefined, hostname: string): void;
  /** Adds to one of Tulle's own counters. */
  count(counter: TulleCounter, by?: number): void;
  /** Adds to a gauge of Tulle's own; negative numbers subtract. */
  gauge(gauge: TulleGauge, by: number): void;
  /** Once per turn of the loop: a thread that stops turning is noticed by the readiness check. */
  turn(): void;
}

/** Why a connection ended, as `response_flags` shows it (spec: l4-ztunnel §9.3). "-" is a normal end, a drain included. */
export type ResponseFlag =
  | "-"
  | "DENY"
  | "CONNECT"
  | "TLS_FAILURE"
  | "H2_HANDSHAKE_FAILURE"
  | "NETWORK_POLICY"
  | "IDENTITY_ERROR"
  | "CERT_REVOKED";

/**
 * The labels of one side of a connection. Keep one object per workload version and pass it again: the label table
 * recognises the object. Empty or undefined values print as "unknown".
 */
export interface PeerLabels {
  /** workloadName, not the pod's name. */
  readonly workload: string | undefined;
  /** canonicalName; also the `app` label. */
  readonly canonicalService: string | undefined;
  /** canonicalRevision; also the `version` label. */
  readonly canonicalRevision: string | undefined;
  readonly namespace: string | undefined;
  readonly cluster: string | undefined;
  /** Region and zone labels print ("unknown" when empty) for every known peer. */
  readonly region: string | undefined;
  readonly zone: string | undefined;
}

export interface ServiceLabels {
  readonly hostname: string;
  readonly namespace: string;
  readonly name: string;
}

/** The label tuple of a connection, less `response_flags` (spec: l4-ztunnel §9.3). */
export interface ConnectionLabels {
  /** `source` for outbound, `destination` for inbound. */
  readonly reporter: "source" | "destination";
  readonly source: PeerLabels | undefined;
  /** SPIFFE URI of the client, from TLS only. */
  readonly sourcePrincipal: string | undefined;
  readonly service: ServiceLabels | undefined;
  readonly destination: PeerLabels | undefined;
  /** SPIFFE URI of the destination workload. */
  readonly destinationPrincipal: string | undefined;
  readonly security: "mutual_tls" | "unknown";
}

/** One counted connection. Totals are bytes since the connection was opened, application bytes only. */
export interface OpenConnection {
  /** Brings the byte counters up to these totals; call it from time to time while the connection is open. */
  progress(fromClient: number, fromServer: number): void;
  /** Final totals and the final flag; counts closed, and failed unless the flag is "-". Idempotent. */
  closed(flag: ResponseFlag, fromClient: number, fromServer: number): void;
}

export interface DnsLabels {
  /** Lower case: `a`, `aaaa`, `srv` … */
  readonly queryType: string;
  readonly protocol: "udp" | "tcp";
  readonly canonicalService: string | undefined;
  readonly canonicalRevision: string | undefined;
}

export interface DnsSeries {
  request(): void;
  upstreamRequest(): void;
  upstreamFailure(): void;
  upstreamDuration(seconds: number): void;
}

export type AccessEvent =
  /** "connection complete": INFO, or ERROR when `error` is set. */
  | "complete"
  /** "connection opened": DEBUG. */
  | "opened"
  /** "connection failed": WARN, before metadata is known: addresses, direction and error only. */
  | "failed";

/** One access log line (spec: l4-ztunnel §9.5). Undefined fields are left out; field order is the formatter's business. */
export interface AccessRecord {
  readonly event: AccessEvent;
  readonly direction: "inbound" | "outbound";
  /** `ip:port` of the client. */
  readonly sourceAddress: string | undefined;
  /** Pod name, else the workload's or canonical service's name. */
  readonly sourceWorkload?: string | undefined;
  readonly sourceNamespace?: string | undefined;
  /** SPIFFE URI; only with mTLS. */
  readonly sourceIdentity?: string | undefined;
  readonly sourceCluster?: string | undefined;
  /** What was connected to, e.g. `10.0.0.2:15008`. */
  readonly destinationAddress: string | undefined;
  /** The authority of the CONNECT request. */
  readonly hboneAddress?: string | undefined;
  /** Hostname of the service. */
  readonly destinationService?: string | undefined;
  readonly destinationWorkload?: string | undefined;
  readonly destinationNamespace?: string | undefined;
  readonly destinationIdentity?: string | undefined;
  readonly destinationCluster?: string | undefined;
  /** Bytes that the client sent, whichever side reports. The formatter turns them into the local pod's sent and received. */
  readonly bytesFromClient?: number;
  readonly bytesFromServer?: number;
  readonly durationMs?: number;
  readonly error?: string | undefined;
}

/** Tulle's own counters; each prints as `tulle_<name>_total`, a part after the colon as a `reason` label. */
export type TulleCounter =
  /** A connect was tried again on another endpoint. */
  | "connect_retries"
  /** A limit refused a connection; which one. */
  | "connections_refused:pod_connections"
  | "connections_refused:pod_buffered_bytes"
  | "connections_refused:unauthenticated_listener"
  | "connections_refused:unauthenticated_source"
  /** No handshake or CONNECT in time. */
  | "connections_refused:authentication_timeout"
  /** A destination inside MESH_CIDRS, a waypoint or a policy that did not become known in time. */
  | "connections_refused:unknown_destination"
  | "connections_refused:unknown_waypoint"
  | "connections_refused:missing_policy"
  /** Connections cut because a policy changed. */
  | "connections_closed_by_policy"
  /** Pooled connections dropped because their address changed hands. */
  | "pool_connections_dropped"
  /** An event handler threw; its connection was reset. */
  | "handler_faults"
  /** accept() failed. */
  | "accept_errors";

export type TulleGauge =
  /** Outbound HBONE connections. */
  | "pool_connections"
  /** Streams on them. */
  | "pool_tunnels"
  /** Connections that have not authenticated yet. */
  | "unauthenticated_connections"
  /** Bytes buffered for slow readers. */
  | "buffered_bytes";
