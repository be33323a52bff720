import {
  DAEMON_SET,
  DEPLOYMENT,
  EVENT,
  type KubeObject,
  NODE,
  type Node,
  type Pod,
  POD,
  type Store,
} from "@tulle/store";
import { CAPTURED_CONDITION, DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION } from "@tulle/base";
import { INSTALLATION_LABEL, ISTIOD, NODE_AGENT, VERSION_LABEL, ZTUNNEL } from "../install/manifests/common.ts";
import { rolloutState } from "../install/rollout.ts";

/** How the parts of an installation are, as status and check tell it. Reads only. */

export interface PartState {
  readonly name: string;
  /** Undefined: it is not there. */
  readonly version: string | undefined;
  readonly ready: number;
  readonly wanted: number;
  readonly ok: boolean;
}

export interface NodeState {
  readonly name: string;
  readonly kernel: string;
  readonly architecture: string;
  readonly os: string;
  readonly runtime: string;
  readonly ready: boolean;
  readonly agentReady: boolean;
  readonly ztunnelReady: boolean;
}

export interface MeshedPod {
  readonly pod: Pod;
  readonly captured: boolean;
  /** Why it is not, as the node agent says. */
  readonly reason: string | undefined;
}

/** What the kubelet says of its machine. */
interface NodeInfo {
  readonly kernelVersion?: string;
  readonly architecture?: string;
  readonly osImage?: string;
  readonly containerRuntimeVersion?: string;
}

const PARTS = [
  { kind: DEPLOYMENT, name: ISTIOD },
  { kind: DAEMON_SET, name: NODE_AGENT },
  { kind: DAEMON_SET, name: ZTUNNEL },
] as const;

export async function partStates(store: Store, namespace: string): Promise<PartState[]> {
  const states: PartState[] = [];
  for (const { kind, name } of PARTS) {
    const object = await store.get<KubeObject>(kind, { namespace, name });
    const { ready, wanted, done } = rolloutState(kind, object);
    const version = object?.metadata.labels?.[VERSION_LABEL];
    states.push({ name, version: object === undefined ? undefined : (version ?? "unknown"), ready, wanted, ok: done });
  }
  return states;
}

/** Whether what is there was installed by Tulle. */
export async function isOurs(store: Store, namespace: string): Promise<boolean> {
  const object = await store.get<KubeObject>(DEPLOYMENT, { namespace, name: ISTIOD });
  return object?.metadata.labels?.[INSTALLATION_LABEL] === namespace;
}

export async function nodeStates(store: Store, namespace: string): Promise<NodeState[]> {
  const agents = await readyNodes(store, namespace, { "k8s-app": NODE_AGENT });
  const ztunnels = await readyNodes(store, namespace, { app: ZTUNNEL });
  return (await store.list<Node>(NODE))
    .map(({ metadata, status }) => {
      const info: NodeInfo = status?.nodeInfo ?? {};
      return {
        name: metadata.name,
        kernel: info.kernelVersion ?? "",
        architecture: info.architecture ?? "",
        os: info.osImage ?? "",
        runtime: info.containerRuntimeVersion ?? "",
        ready: isTrue(status?.conditions, "Ready"),
        agentReady: agents.has(metadata.name),
        ztunnelReady: ztunnels.has(metadata.name),
      };
    })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** Pods that their labels or their namespace's put into the mesh, except those that cannot be (spec: control-plane §1.4). */
export function meshedPods(
  pods: readonly Pod[],
  namespaces: readonly KubeObject[],
  excluded: ReadonlySet<string> = new Set(["kube-system"]),
): MeshedPod[] {
  const modes = new Map(namespaces.map(({ metadata }) => [metadata.name, metadata.labels?.[DATAPLANE_MODE_LABEL]]));
  return pods
    .filter(({ metadata, spec, status }) => {
      if (excluded.has(metadata.namespace ?? "") || spec?.hostNetwork === true) return false;
      if (status?.phase === "Succeeded" || status?.phase === "Failed") return false;
      if (metadata.annotations?.["sidecar.istio.io/status"] !== undefined) return false;
      const own = metadata.labels?.[DATAPLANE_MODE_LABEL];
      return own === "ambient" || (own !== "none" && modes.get(metadata.namespace ?? "") === "ambient");
    })
    .map((pod) => {
      const condition = pod.status?.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
      const annotated = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
      const captured = annotated === "enabled" && condition?.status !== "False";
      const said = condition?.status === "False" ? `${condition.reason ?? ""}: ${condition.message ?? ""}` : undefined;
      return { pod, captured, reason: captured ? undefined : (said ?? annotated ?? pod.status?.phase) };
    });
}

/** Reasons looked up for pods that do not start: each costs a request. */
const MAX_LOOKED_UP = 10;
/** Runtimes wrap one error into the other: the end says what went wrong. */
const MAX_MESSAGE = 300;

/** The same pods; those that do not start say why, from their Events. */
export async function withReasons(store: Store, pods: readonly MeshedPod[]): Promise<MeshedPod[]> {
  let lookups = 0;
  const told: MeshedPod[] = [];
  for (const entry of pods) {
    const { pod, captured } = entry;
    if (captured || pod.status?.phase !== "Pending" || lookups++ >= MAX_LOOKED_UP) {
      told.push(entry);
      continue;
    }
    const { namespace = "", uid = "" } = pod.metadata;
    const events = await store.list<KubeObject>(EVENT, {
      namespace,
      fields: { "involvedObject.uid": uid, type: "Warning" },
    });
    const latest = events.map(textOf).toSorted((a, b) => (a.at < b.at ? 1 : -1))[0];
    told.push(latest === undefined ? entry : { ...entry, reason: `${latest.reason}: ${latest.message}` });
  }
  return told;
}

function textOf(event: KubeObject): { readonly at: string; readonly reason: string; readonly message: string } {
  const text = (name: string) => (typeof event[name] === "string" ? event[name] : "");
  const said = text("message").replaceAll(/\s+/g, " ");
  const message = said.length > MAX_MESSAGE ? `…${said.slice(-MAX_MESSAGE)}` : said;
  return { at: text("lastTimestamp") || text("eventTime"), reason: text("reason"), message };
}

async function readyNodes(
  store: Store,
  namespace: string,
  labels: Readonly<Record<string, string>>,
): Promise<Set<string>> {
  const pods = await store.list<Pod>(POD, { namespace, labels });
  return new Set(
    pods.filter(({ status }) => isTrue(status?.conditions, "Ready")).map(({ spec }) => spec?.nodeName ?? ""),
  );
}

function isTrue(
  conditions: readonly { readonly type: string; readonly status: string }[] | undefined,
  type: string,
): boolean {
  return conditions?.some((condition) => condition.type === type && condition.status === "True") === true;
}
