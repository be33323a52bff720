import { messageOf } from "@tulle/base";
import type { ConnectionDump, ProxyConnections, WorkloadInfo } from "../protocol.ts";
import type { VersionInfo } from "../version.ts";

/** Assembles `/config_dump` (spec: l4-ztunnel §9.1). Keys and types are what istioctl reads. */

/** Where the parts come from. */
export interface DumpSources {
  /** The mesh as it is known: objects that are ready to print. */
  readonly mesh: () => MeshDump;
  /** Content of the local file; empty lists without one. */
  readonly staticConfig: () => StaticDump;
  readonly certificates: () => readonly CertificateSource[];
  readonly version: VersionInfo;
  readonly config: object;
  /** Shared mode only: every proxy, by the uid of its pod. */
  readonly proxies?: () => readonly ProxyState[];
  /** Live connections; answered by the data threads. */
  readonly connections?: () => Promise<readonly ProxyConnections[]>;
  /** How many changes of the mesh were sent to the data threads, and how many all of them have applied. */
  readonly progress?: () => { readonly sent: number; readonly applied: number };
}

export interface MeshDump {
  readonly workloads: readonly object[];
  readonly services: readonly object[];
  readonly policies: readonly object[];
  readonly stagedServices: object;
}

export interface StaticDump {
  readonly workloads: readonly object[];
  readonly services: readonly object[];
  readonly policies: readonly object[];
}

export interface ProxyState {
  readonly uid: string;
  readonly state: "Up" | "Pending" | "Draining";
  readonly info: WorkloadInfo;
}

/** An identity and its certificate; the shape of SecretEntry in packages/pki. */
export interface CertificateSource {
  /** `spiffe://…` */
  readonly uri: string;
  readonly state:
    | { readonly kind: "initializing" }
    | { readonly kind: "unavailable"; readonly reason: string }
    | {
        readonly kind: "available";
        readonly certificate: {
          readonly chain: readonly CertificateFacts[];
          readonly roots: readonly CertificateFacts[];
        };
      };
}

export interface CertificateFacts {
  readonly pem: string;
  /** Decimal. */
  readonly serialNumber: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A data thread that is busy answers within a turn; one that does not is left out rather than waited for. */
const CONNECTIONS_TIMEOUT_MS = 2000;

export async function configDump(sources: DumpSources): Promise<object> {
  const { connections, problem } = await liveConnections(sources);
  const { workloads, services, policies, stagedServices } = sources.mesh();
  return {
    certificates: sources.certificates().map(dumpCertificate),
    config: sources.config,
    ...((sources.progress !== undefined || problem !== undefined) && {
      dataThreads: { ...sources.progress?.(), problem },
    }),
    policies,
    services,
    stagedServices,
    staticConfig: sources.staticConfig(),
    version: sources.version,
    ...(sources.proxies && { workloadState: workloadState(sources.proxies(), connections) }),
    workloads,
  };
}

export function dumpCertificate({ uri, state }: CertificateSource): object {
  const certificate = state.kind === "available" ? state.certificate : { chain: [], roots: [] };
  return {
    identity: uri,
    state: stateText(state),
    certChain: certificate.chain.map(dumpFacts),
    rootCerts: certificate.roots.map(dumpFacts),
  };
}

function stateText(state: CertificateSource["state"]): string {
  switch (state.kind) {
    case "available":
      return "Available";
    case "initializing":
      return "Initializing";
    case "unavailable":
      return `Unavailable: ${state.reason}`;
    default:
      return state satisfies never;
  }
}

function dumpFacts({ pem, serialNumber, notBefore, notAfter }: CertificateFacts): object {
  return {
    pem: Buffer.from(pem).toString("base64"),
    serialNumber,
    validFrom: seconds(notBefore),
    expirationTime: seconds(notAfter),
  };
}

/** RFC 3339 without fractions. */
function seconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

/** A pending proxy has no connections to show. */
function workloadState(
  proxies: readonly ProxyState[],
  connections: ReadonlyMap<string, ProxyConnections> | undefined,
): Readonly<Record<string, object>> {
  return Object.fromEntries(
    proxies.map(({ uid, state, info }) => {
      const live = connections && dumpConnections(connections.get(uid));
      return [uid, { state, ...(state !== "Pending" && live && { connections: live }), info }];
    }),
  );
}

function dumpConnections(live: ProxyConnections | undefined): object {
  return { inbound: (live?.inbound ?? []).map(dumpConnection), outbound: (live?.outbound ?? []).map(dumpConnection) };
}

function dumpConnection({ src, originalDst, actualDst, protocol }: ConnectionDump): object {
  return { src, originalDst, actualDst, protocol };
}

async function liveConnections(sources: DumpSources): Promise<{
  readonly connections: ReadonlyMap<string, ProxyConnections> | undefined;
  readonly problem: string | undefined;
}> {
  if (sources.proxies === undefined || sources.connections === undefined) {
    return { connections: new Map(), problem: undefined };
  }
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const error = new Error(`the data threads have not listed their connections within ${CONNECTIONS_TIMEOUT_MS} ms`);
    timer = setTimeout(() => reject(error), CONNECTIONS_TIMEOUT_MS);
  });
  try {
    const proxies = await Promise.race([sources.connections(), late]);
    return { connections: new Map(proxies.map((proxy) => [proxy.uid, proxy])), problem: undefined };
  } catch (error) {
    return { connections: undefined, problem: messageOf(error) };
  } finally {
    clearTimeout(timer);
  }
}
