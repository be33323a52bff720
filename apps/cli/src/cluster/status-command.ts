import { type KubeObject, NAMESPACE, POD } from "@tulle/store";
import { FAILED, type MeshFlags } from "../command.ts";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { CROSS, styleFor, TICK } from "../ui/style.ts";
import { renderTable } from "../ui/table.ts";
import { type BadCondition, listBadConditions } from "./conditions.ts";
import {
  enrolmentSettings,
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
  /** Those that are meant to be in the mesh. */
  readonly pods: readonly {
    readonly pod: string;
    readonly node: string;
    readonly address: string;
    readonly captured: boolean;
  }[];
  readonly notCaptured: readonly { readonly pod: string; readonly node: string; readonly reason: string }[];
  readonly conditions: readonly BadCondition[];
}

/** Without -o wide; the rest is a number. */
const MAX_PODS_SHOWN = 20;
const MAX_CONDITIONS_SHOWN = 50;

/** `tulle status`. Exit code 1 when something is not as it should be. */
export async function showStatus(context: CliContext, flags: StatusFlags): Promise<number> {
  const status = await gather(context, flags);
  const { stdout, env } = context.process;
  const text =
    flags.output === "json" || flags.output === "yaml"
      ? await structured(status, flags.output)
      : statusText(status, styleFor(stdout, env), flags.output === "wide");
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
  const settings = await enrolmentSettings(store, namespace);
  const meshed = meshedPods(await store.list(POD), await store.list<KubeObject>(NAMESPACE), settings);
  const pods = await withReasons(store, meshed);
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
    pods: pods.map(({ pod, captured }) => ({
      pod: `${pod.metadata.namespace}/${pod.metadata.name}`,
      node: pod.spec?.nodeName ?? "",
      address: pod.status?.podIP ?? "",
      captured,
    })),
    conditions: await listBadConditions(store),
  };
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

/** For people. `wide`: with every pod, more of each node, and without a limit. */
export function statusText(status: MeshStatus, style: ReturnType<typeof styleFor>, wide: boolean): string {
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
        columns: ["NODE", "STATE", "AGENT", "ZTUNNEL", "KERNEL", "ARCH", ...(wide ? ["OS-IMAGE", "RUNTIME"] : [])],
        rows: status.nodes.map(({ name, ready, agentReady, ztunnelReady, kernel, architecture, os, runtime }) => [
          name,
          yes(ready),
          yes(agentReady),
          yes(ztunnelReady),
          kernel,
          architecture,
          ...(wide ? [os, runtime] : []),
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
    if (wide) sections.push(podTable(status));
  }
  if (status.notCaptured.length > 0) {
    const shown = status.notCaptured.slice(0, wide ? undefined : MAX_PODS_SHOWN);
    const lines = shown.map(
      ({ pod, node, reason }) => `${mark(false)} ${pod} on ${node || "no node"} is not captured: ${reason}\n`,
    );
    const more = status.notCaptured.length - shown.length;
    sections.push(lines.join("") + (more > 0 ? `  and ${more} more: tulle status -o wide\n` : ""));
  }
  if (status.conditions.length > 0) {
    const shown = status.conditions.slice(0, wide ? undefined : MAX_CONDITIONS_SHOWN);
    const rows = shown.map((bad) => [
      bad.kind,
      bad.namespace,
      bad.name,
      `${bad.type}=${bad.status}`,
      bad.reason,
      bad.message,
    ]);
    const columns = ["KIND", "NAMESPACE", "NAME", "CONDITION", "REASON", "MESSAGE"];
    const more = status.conditions.length - shown.length;
    sections.push(renderTable({ columns, rows }, 2) + (more > 0 ? `and ${more} more: tulle status -o wide\n` : ""));
  }
  return sections.join("\n");
}

function podTable({ pods }: MeshStatus): string {
  const rows = pods
    .map(({ pod, node, address, captured }) => [pod, node, address, captured ? "yes" : "no"])
    .toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1));
  return renderTable({ columns: ["POD", "NODE", "ADDRESS", "CAPTURED"], rows }, 2);
}
