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
import { CAPTURED_CONDITION, REDIRECTION_ANNOTATION } from "@tulle/base";
import {
  decide,
  DEFAULT_ENABLEMENT,
  type EnrolmentSettings,
  readEnablement,
  readExcludedNamespaces,
} from "@tulle/base/enrolment";
import { parse } from "yaml";
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

interface Container {
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
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

/** Pods that are to be in the mesh. `settings`: see `enrolmentSettings`. */
export function meshedPods(
  pods: readonly Pod[],
  namespaces: readonly KubeObject[],
  settings: EnrolmentSettings,
): MeshedPod[] {
  const known = new Map(namespaces.map((one) => [one.metadata.name, one]));
  return pods
    .filter((pod) => {
      if (pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed") return false;
      return decide(pod, known.get(pod.metadata.namespace ?? ""), settings).kind === "enrol";
    })
    .map((pod) => {
      const condition = pod.status?.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
      const annotated = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
      const captured = annotated === "enabled" && condition?.status !== "False";
      const said = condition?.status === "False" ? `${condition.reason ?? ""}: ${condition.message ?? ""}` : undefined;
      return { pod, captured, reason: captured ? undefined : (said ?? annotated ?? pod.status?.phase) };
    });
}

/** What the control plane and the node agents were told, as istiod's environment says; without it (the local mesh), or where it cannot be read, the defaults. */
export async function enrolmentSettings(store: Store, systemNamespace: string): Promise<EnrolmentSettings> {
  const istiod = await store.get(DEPLOYMENT, { namespace: systemNamespace, name: ISTIOD });
  const [container] = (istiod?.spec?.template?.spec?.containers ?? []) as readonly Container[];
  const text = (name: string) => container?.env?.find((one) => one.name === name)?.value;
  const selectors = text("AMBIENT_ENABLEMENT_SELECTOR");
  try {
    return {
      selectors: selectors === undefined ? DEFAULT_ENABLEMENT : readEnablement(parse(selectors)),
      excludeNamespaces: readExcludedNamespaces(text("EXCLUDE_NAMESPACES")),
      systemNamespace,
    };
  } catch {
    // istiod does not start with them, and its log says so.
    return { selectors: DEFAULT_ENABLEMENT, excludeNamespaces: readExcludedNamespaces(undefined), systemNamespace };
  }
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
