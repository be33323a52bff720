import {
  AUTHORIZATION_POLICY,
  type KubeObject,
  NAMESPACE,
  PEER_AUTHENTICATION,
  POD,
  type ResourceKind,
  SERVICE_ENTRY,
} from "@tulle/store";
import { FAILED, type MeshFlags } from "../command.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { CROSS, styleFor, TICK } from "../ui/style.ts";
import { renderTable } from "../ui/table.ts";
import {
  type BadCondition,
  badConditions,
  type MeshedPod,
  meshedPods,
  nodeStates,
  type NodeState,
  type PartState,
  partStates,
  withReasons,
} from "./parts.ts";

export interface StatusFlags extends MeshFlags {
  readonly output: OutputFormat;
}

interface NamespaceCount {
  readonly namespace: string;
  readonly pods: number;
  readonly captured: number;
}

export interface MeshStatus {
  readonly namespace: string;
  readonly kubernetes: string;
  readonly parts: readonly PartState[];
  readonly nodes: readonly NodeState[];
  readonly namespaces: readonly NamespaceCount[];
  readonly notCaptured: readonly { readonly pod: string; readonly node: string; readonly reason: string }[];
  readonly conditions: readonly BadCondition[];
}

/** Kinds whose conditions tell a user that something does not work as written. */
const JUDGED: readonly ResourceKind[] = [AUTHORIZATION_POLICY, PEER_AUTHENTICATION, SERVICE_ENTRY];
const MAX_PODS_SHOWN = 20;

/** `tulle status`. Exit code 1 when something is not as it should be. */
export async function showStatus(context: CliContext, flags: StatusFlags): Promise<number> {
  const status = await gather(context, flags);
  const { stdout, env } = context.process;
  const text =
    flags.output === "json" || flags.output === "yaml"
      ? await structured(status, flags.output)
      : statusText(status, styleFor(stdout, env));
  stdout.write(text);
  return isWell(status) ? 0 : FAILED;
}

async function gather(context: CliContext, flags: StatusFlags): Promise<MeshStatus> {
  const namespace = flags.istioNamespace;
  await using cluster = await context.connect(flags);
  const { store } = cluster;
  const kubernetes = await cluster.serverVersion();
  const parts = await partStates(store, namespace);
  if (parts.every(({ version }) => version === undefined)) {
    throw new CliError(
      `Tulle is not installed in the namespace ${namespace} of ${cluster.name}`,
      "install it (tulle install), or name the namespace with --istio-namespace",
    );
  }
  const pods = await withReasons(store, meshedPods(await store.list(POD), await store.list<KubeObject>(NAMESPACE)));
  const conditions: BadCondition[] = [];
  for (const kind of JUDGED) conditions.push(...badConditions(kind.kind, await listIfServed(store, kind)));
  return {
    namespace,
    kubernetes,
    parts,
    nodes: await nodeStates(store, namespace),
    namespaces: countByNamespace(pods),
    notCaptured: pods
      .filter(({ captured }) => !captured)
      .map(({ pod, reason }) => ({
        pod: `${pod.metadata.namespace}/${pod.metadata.name}`,
        node: pod.spec?.nodeName ?? "",
        reason: reason ?? "unknown",
      })),
    conditions,
  };
}

async function listIfServed(store: { list(kind: ResourceKind): Promise<readonly KubeObject[]> }, kind: ResourceKind) {
  try {
    return await store.list(kind);
  } catch (error) {
    // The schema is not installed: there can be no object of it.
    if ((error as { code?: unknown }).code === "NOT_FOUND") return [];
    throw error;
  }
}

function countByNamespace(pods: readonly MeshedPod[]): NamespaceCount[] {
  const counts = new Map<string, { pods: number; captured: number }>();
  for (const { pod, captured } of pods) {
    const namespace = pod.metadata.namespace ?? "";
    const count = counts.get(namespace) ?? { pods: 0, captured: 0 };
    counts.set(namespace, { pods: count.pods + 1, captured: count.captured + (captured ? 1 : 0) });
  }
  return [...counts]
    .map(([namespace, count]) => ({ namespace, ...count }))
    .toSorted((a, b) => (a.namespace < b.namespace ? -1 : 1));
}

function isWell({ parts, nodes, notCaptured, conditions }: MeshStatus): boolean {
  return (
    parts.every(({ ok }) => ok) &&
    nodes.every(({ ready, agentReady, ztunnelReady }) => !ready || (agentReady && ztunnelReady)) &&
    notCaptured.length === 0 &&
    conditions.length === 0
  );
}

/** For people. */
export function statusText(status: MeshStatus, style: ReturnType<typeof styleFor>): string {
  const mark = (ok: boolean) => (ok ? style.good(TICK) : style.bad(CROSS));
  const yes = (ok: boolean) => (ok ? "ready" : "not ready");
  const versions = [...new Set(status.parts.map(({ version }) => version ?? "none"))].join(", ");
  const sections = [`Tulle ${versions} in ${status.namespace}, Kubernetes ${status.kubernetes}\n`];
  const parts = status.parts.map(({ name, ok, version, ready, wanted }) => {
    const state = version === undefined ? "not there" : `${ready} of ${wanted} ready`;
    return `${mark(ok)} ${name}: ${state}\n`;
  });
  sections.push(parts.join(""));
  sections.push(
    renderTable(
      {
        columns: ["NODE", "STATE", "AGENT", "ZTUNNEL", "KERNEL", "ARCH"],
        rows: status.nodes.map(({ name, ready, agentReady, ztunnelReady, kernel, architecture }) => [
          name,
          yes(ready),
          yes(agentReady),
          yes(ztunnelReady),
          kernel,
          architecture,
        ]),
      },
      2,
    ),
  );
  if (status.namespaces.length === 0) {
    sections.push(
      "No pod is in the mesh. Enrol a namespace: kubectl label namespace default istio.io/dataplane-mode=ambient\n",
    );
  } else {
    const rows = status.namespaces.map(({ namespace, pods, captured }) => [namespace, String(pods), String(captured)]);
    sections.push(renderTable({ columns: ["NAMESPACE", "MESHED PODS", "CAPTURED"], rows }, 2));
  }
  if (status.notCaptured.length > 0) {
    const shown = status.notCaptured.slice(0, MAX_PODS_SHOWN);
    const lines = shown.map(
      ({ pod, node, reason }) => `${mark(false)} ${pod} on ${node || "no node"} is not captured: ${reason}\n`,
    );
    const more = status.notCaptured.length - shown.length;
    sections.push(lines.join("") + (more > 0 ? `  and ${more} more\n` : ""));
  }
  if (status.conditions.length > 0) {
    const rows = status.conditions.map((bad) => [
      bad.kind,
      bad.namespace,
      bad.name,
      `${bad.type}=${bad.status}`,
      bad.reason,
      bad.message,
    ]);
    sections.push(renderTable({ columns: ["KIND", "NAMESPACE", "NAME", "CONDITION", "REASON", "MESSAGE"], rows }, 2));
  }
  return sections.join("\n");
}
