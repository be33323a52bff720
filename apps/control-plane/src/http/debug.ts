import type { IncomingMessage, ServerResponse } from "node:http";
import type { KubeObject } from "@tulle/store";
import type { StateDump } from "@tulle/mesh";
import { type Profiler, PROFILE_PAGES, respondProfiling } from "@tulle/telemetry/profiling";
import { nodeMetadata, type TypeStatus, type XdsClientStatus } from "@tulle/xds";
import type { Caller } from "../auth/authenticator.ts";
import { type DebugGuardOptions, debugAccess } from "./debug-guard.ts";
import { respond } from "./http-server.ts";

/** What is behind the pages: read when somebody asks. */
export interface DebugSources {
  readonly clusterId: string;
  readonly clients: () => readonly XdsClientStatus<Caller>[];
  /** What proxies are told. */
  readonly mesh: () => StateDump;
  readonly settings: () => object;
  /** Objects of users that the mesh is computed from. */
  readonly objects: () => Iterable<KubeObject>;
  readonly synced: () => boolean;
}

interface Page {
  readonly help: string;
  readonly show: (sources: DebugSources, query: URLSearchParams, namespace: string | undefined) => unknown;
  /** Callers of other namespaces see it, as far as it concerns them. */
  readonly scoped?: true;
}

const PREFIX = "/debug/";

const PAGES: Readonly<Record<string, Page>> = {
  syncz: { help: "proxies that are connected, and how far each of them is", show: syncz },
  config_dump: { help: "what a proxy is told (?proxyID=<pod>.<namespace>)", show: configDump, scoped: true },
  ambientz: { help: "workloads, services and policies of the mesh", show: ({ mesh }) => mesh() },
  registryz: { help: "services of the mesh", show: ({ mesh }) => mesh().services },
  authorizationz: { help: "policies as node proxies are told of them", show: ({ mesh }) => mesh().policies },
  configz: { help: "objects that the mesh is computed from", show: ({ objects }) => [...objects()] },
  connections: { help: "discovery streams", show: connections },
  adsz: { help: "the same, with what each proxy says of itself", show: adsz },
  mesh: { help: "configuration of the mesh", show: ({ settings }) => settings() },
  clusterz: {
    help: "clusters that are followed",
    show: ({ clusterId, synced }) => [{ id: clusterId, secretName: "", syncStatus: synced() ? "synced" : "syncing" }],
  },
  list: {
    help: "these pages",
    show: () => [
      ...Object.entries(PAGES).map(([name, { help }]) => ({ path: `${PREFIX}${name}`, help })),
      ...PROFILE_PAGES.map(([path, help]) => ({ path, help })),
    ],
  },
};

/** Answers `/debug/…`; false: it is another path. */
export async function respondDebug(
  request: IncomingMessage,
  response: ServerResponse,
  options: { readonly sources: DebugSources; readonly guard: DebugGuardOptions; readonly profiler: Profiler },
): Promise<boolean> {
  const url = new URL(request.url ?? "/", "http://localhost");
  const { pathname } = url;
  if (pathname !== "/debug" && !pathname.startsWith(PREFIX)) return false;
  const access = await debugAccess(request, options.guard);
  if (access.kind === "refused") {
    respond(response, access.status, `${access.text}\n`);
    return true;
  }
  if (access.kind === "everything" && (await respondProfiling(url, response, options.profiler))) return true;
  const name = pathname.slice(PREFIX.length) || "list";
  const namespace = access.kind === "namespace" ? access.namespace : undefined;
  const { status, text } = debugPage(options.sources, { name, query: url.searchParams, namespace });
  respond(response, status, text, status === 200 ? "application/json" : undefined);
  return true;
}

export interface DebugQuestion {
  /** `syncz`, say. */
  readonly name: string;
  readonly query: URLSearchParams;
  /** Of a caller who may see what concerns it only; undefined: everything. */
  readonly namespace: string | undefined;
}

/** One page, as JSON; with another status than 200 why there is none, in a sentence. */
export function debugPage(
  sources: DebugSources,
  { name, query, namespace }: DebugQuestion,
): { readonly status: number; readonly text: string } {
  const page = Object.hasOwn(PAGES, name) ? PAGES[name] : undefined;
  // istioctl knows what is not there by these very words, and then lists what there is.
  const missing = `404 page not found: there is no ${PREFIX}${name}; ${PREFIX}list names what there is\n`;
  if (page === undefined) return { status: 404, text: missing };
  if (namespace !== undefined && page.scoped !== true) {
    return { status: 403, text: `callers of the namespace ${namespace} may not see ${PREFIX}${name}\n` };
  }
  const shown = page.show(sources, query, namespace);
  if (shown instanceof NotShown) return { status: shown.status, text: `${shown.text}\n` };
  return { status: 200, text: `${JSON.stringify(shown, undefined, 2)}\n` };
}

/** A page that cannot be shown, and why. */
class NotShown {
  readonly status: number;
  readonly text: string;

  constructor(status: number, text: string) {
    this.status = status;
    this.text = text;
  }
}

/** As istioctl reads it: `version` counts proxies and their versions. */
function syncz({ clients, clusterId }: DebugSources) {
  return clients().map((client) => ({
    cluster_id: nodeMetadata(client.peer.node, "CLUSTER_ID") || clusterId,
    proxy: proxyName(client),
    proxy_type: client.peer.node.id.split("~", 1)[0] ?? "",
    istio_version: nodeMetadata(client.peer.node, "ISTIO_VERSION"),
    types: client.types.map((type) => ({ typeUrl: type.typeUrl, status: syncStatus(type), error: type.error })),
  }));
}

/** `<pod>.<namespace>`. */
export function proxyName({ peer }: XdsClientStatus<Caller>): string {
  return peer.node.id.split("~")[2] ?? "";
}

export function syncStatus({ sentNonce, ackedNonce, error }: TypeStatus): "NOT SENT" | "SYNCED" | "STALE" | "ERROR" {
  if (error !== undefined) return "ERROR";
  if (sentNonce === "") return "NOT SENT";
  return sentNonce === ackedNonce ? "SYNCED" : "STALE";
}

function connections({ clients }: DebugSources) {
  const all = clients();
  return {
    totalClients: all.length,
    clients: all.map((client) => ({
      connectionId: client.peer.node.id,
      connectedAt: new Date(client.connectedAt).toISOString(),
      identity: `${client.peer.principal.namespace}/${client.peer.principal.serviceAccount}`,
      watches: client.types.map(({ typeUrl, wildcard }) => ({ typeUrl, wildcard })),
    })),
  };
}

function adsz(sources: DebugSources) {
  const { totalClients, clients } = connections(sources);
  const nodes = sources.clients().map(({ peer }) => peer.node);
  return { totalClients, clients: clients.map((client, i) => ({ ...client, metadata: nodes[i]?.metadata ?? {} })) };
}

function configDump({ clients, mesh }: DebugSources, query: URLSearchParams, namespace: string | undefined) {
  const id = query.get("proxyID");
  if (id === null)
    return new NotShown(400, "You must provide a proxyID in the query string: ?proxyID=<pod>.<namespace>");
  // The same answer for what is not there and what is none of the caller's business.
  const ofCaller = namespace === undefined || id.endsWith(`.${namespace}`);
  const client = ofCaller ? clients().find((one) => proxyName(one) === id) : undefined;
  if (client === undefined) return new NotShown(404, `no proxy ${JSON.stringify(id)} is connected to this instance`);
  // Who may not have everything of a type is not shown everything here.
  const whole = client.types.some(({ wildcard }) => wildcard);
  return { proxy: id, types: client.types, ...(whole ? mesh() : {}) };
}
