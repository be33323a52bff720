import type { KeepAlive } from "@tulle/reactor";

/**
 * What the main thread and a data thread say to each other. Commands are read with receiveMessageOnPort when the wake
 * descriptor fires; reports are posted to the main thread's port. High-rate records go through the telemetry ring instead.
 */

/** Everything a data thread needs to know before it starts; it never changes afterwards. */
export interface DataSettings {
  readonly threadIndex: number;
  /** Own network; "" is the default network. */
  readonly network: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly ipv6: boolean;
  /** SO_MARK of every socket in a pod; undefined: none. */
  readonly packetMark: number | undefined;
  /** ENABLE_ORIG_SRC: true = required, undefined = if possible, false = never. */
  readonly originalSource: boolean | undefined;
  readonly reusePort: boolean;
  readonly keepAlive: KeepAlive | undefined;
  /** ENABLE_PROXY: false leaves only the DNS proxy. */
  readonly proxy: boolean;
  readonly ports: {
    readonly outbound: number;
    readonly inboundPlaintext: number;
    readonly inboundHbone: number;
  };
  /** The mesh's own pod and service ranges: an address in them that is not in the snapshot is refused, never passed through. */
  readonly meshCidrs: readonly string[];
  readonly pool: {
    readonly maxStreamsPerConnection: number;
    readonly unusedReleaseMs: number;
    readonly maxAgeMs: number;
  };
  readonly http2: {
    readonly streamWindow: number;
    readonly connectionWindow: number;
    readonly frameSize: number;
  };
  readonly responseBaggage: boolean;
  readonly pqcOnly: boolean;
  readonly dryRunAtInfo: boolean;
  /** XDS_ON_DEMAND: addresses are asked for when a connection needs them. */
  readonly onDemand: boolean;
  readonly limits: DataLimits;
  readonly dns: DnsSettings | undefined;
}

export interface DataLimits {
  /** Connections per pod, all threads together, both directions. */
  readonly connectionsPerPod: number;
  /** Bytes that are buffered for slow readers per pod, all threads together. */
  readonly bufferedBytesPerPod: number;
  /** Connections of one pod's HBONE listener that have not finished their handshake, per thread. */
  readonly unauthenticatedPerListener: number;
  /** The same, from one source address. */
  readonly unauthenticatedPerSource: number;
}

export interface DnsSettings {
  readonly port: number;
  /** IP to bind instead of localhost. */
  readonly ip: string | undefined;
  readonly preferredNamespace: string | undefined;
  /** Search domains that are stripped in dedicated mode; undefined in shared mode: those of the client's namespace. */
  readonly searchDomains: readonly string[] | undefined;
  readonly upstreams: readonly string[];
  readonly timeoutMs: number;
  readonly attempts: number;
  /** Lines of our own /etc/hosts: name → addresses. */
  readonly hosts: ReadonlyMap<string, readonly string[]>;
}

export interface WorkloadInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** `in-pod`: all listeners in the pod's namespace. `dedicated`: all, in our own. `self`: inbound HBONE only, in our own. */
export type ProxyKind = "in-pod" | "dedicated" | "self";

export type StopMode = "graceful" | "immediate";

/** A certificate with its key; `privateKey` (PKCS #8, DER) is this thread's own copy and is zeroed once it was parsed. */
export interface IdentityMessage {
  readonly certificateChainPem: string;
  readonly privateKey: Uint8Array;
  readonly rootsPem: string;
  readonly notAfter: number;
}

export type Command =
  /** Encoded MeshChanges (see `@tulle/mesh` decodeChange), applied in order, then acknowledged. */
  | { readonly kind: "changes"; readonly sequence: number; readonly changes: readonly Uint8Array[] }
  | {
      readonly kind: "start-proxy";
      readonly request: number;
      readonly proxy: ProxyKind;
      readonly uid: string;
      readonly workload: WorkloadInfo;
      /** A descriptor of the pod's network namespace, to be duplicated before the answer; undefined: our own namespace. */
      readonly namespace: number | undefined;
      /** Where in the shared counters this pod's limits are kept. */
      readonly slot: number;
    }
  | { readonly kind: "stop-proxy"; readonly request: number; readonly uid: string; readonly mode: StopMode }
  | { readonly kind: "identity"; readonly uri: string; readonly material: IdentityMessage }
  | { readonly kind: "identity-failed"; readonly uri: string; readonly reason: string }
  | { readonly kind: "identity-forgotten"; readonly uri: string }
  /** What `need-address` has asked for was sent before this, if it exists. */
  | { readonly kind: "address-answered"; readonly name: string }
  | { readonly kind: "connections"; readonly request: number }
  /** Graceful end of everything; what is left after the deadline is cut. Answered by `drained`. */
  | { readonly kind: "drain"; readonly deadlineMs: number }
  /** Tests: throws inside the event loop, outside every barrier. */
  | { readonly kind: "throw" }
  | { readonly kind: "exit" };

/** One connection as `/config_dump` shows it (spec: l4-ztunnel §9.1). */
export interface ConnectionDump {
  readonly src: string;
  readonly originalDst: string | null;
  readonly actualDst: string;
  readonly protocol: "HBONE" | "TCP";
}

export interface ProxyConnections {
  readonly uid: string;
  readonly inbound: readonly ConnectionDump[];
  readonly outbound: readonly ConnectionDump[];
}

export type Report =
  | { readonly kind: "ready"; readonly wakeDescriptor: number }
  | { readonly kind: "applied"; readonly sequence: number }
  /** Answers start-proxy and stop-proxy; `error` when the start failed (everything of it was undone). */
  | { readonly kind: "done"; readonly request: number; readonly error: string | undefined }
  | { readonly kind: "need-identity"; readonly uri: string }
  /** On demand: a resource name or alias of the Address type. */
  | { readonly kind: "need-address"; readonly name: string }
  | { readonly kind: "connections"; readonly request: number; readonly proxies: readonly ProxyConnections[] }
  | { readonly kind: "drained" };
