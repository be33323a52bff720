import { type Pod, POD } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import type { Cluster } from "../kube/cluster.ts";
import { podRequest } from "../kube/pod-http.ts";

/** A ztunnel that can be asked. */
export interface Ztunnel {
  /** Node that it serves. */
  readonly node: string;
  /** `name.namespace`. */
  readonly name: string;
  /** The body of the answer. Rejects with CliError, also when the status is not 200. */
  readonly ask: (method: "GET" | "POST", path: string) => Promise<string>;
}

/** Which ztunnels, and what of them. */
export interface Selected {
  readonly ztunnels: readonly Ztunnel[];
  /** One was chosen, rather than all. */
  readonly single: boolean;
  /** Show only what belongs to this pod. */
  readonly pod: { readonly namespace: string; readonly name: string } | undefined;
}

export interface Choice {
  readonly istioNamespace: string;
  readonly node?: string | undefined;
  /** `name` or `name.namespace`, of a ztunnel or of any pod. */
  readonly pod?: string | undefined;
  /** Namespace of `pod` when it does not say. Default: the context's. */
  readonly namespace?: string | undefined;
  /** Admin port of ztunnel, usually ADMIN_PORT. */
  readonly proxyAdminPort: number;
}

/** Rejects with CliError. */
export async function selectZtunnels(cluster: Cluster, choice: Choice): Promise<Selected> {
  const { istioNamespace: namespace } = choice;
  const pods = (await cluster.store.list(POD, { namespace, labels: { app: "ztunnel" } }))
    .filter(({ status }) => status?.phase === "Running")
    .toSorted((a, b) => (nodeOf(a) < nodeOf(b) ? -1 : 1));
  const ztunnel = (pod: Pod): Ztunnel => ztunnelOf(cluster, pod, choice.proxyAdminPort);
  if (pods.length === 0) {
    throw new CliError(
      `no ztunnel runs in the namespace ${namespace}`,
      "install it (tulle install), or name the namespace with --istio-namespace",
    );
  }
  if (choice.node !== undefined)
    return { ztunnels: [ztunnel(onNode(pods, choice.node))], single: true, pod: undefined };
  if (choice.pod === undefined) return { ztunnels: pods.map(ztunnel), single: false, pod: undefined };

  const [name, podNamespace] = splitName(choice.pod);
  const own = pods.find(({ metadata }) => metadata.name === name && (podNamespace ?? namespace) === namespace);
  if (own !== undefined) return { ztunnels: [ztunnel(own)], single: true, pod: undefined };
  const ref = { name, namespace: podNamespace ?? choice.namespace ?? cluster.namespace };
  const pod = await cluster.store.get(POD, ref);
  if (pod === undefined) {
    throw new CliError(
      `there is no pod ${ref.namespace}/${name}`,
      "name another namespace with --namespace or as name.namespace",
    );
  }
  return { ztunnels: [ztunnel(onNode(pods, nodeOf(pod)))], single: true, pod: ref };
}

function ztunnelOf(cluster: Cluster, pod: Pod, port: number): Ztunnel {
  const { name, namespace = "" } = pod.metadata;
  return {
    node: nodeOf(pod),
    name: `${name}.${namespace}`,
    ask: async (method, path) => {
      const where = `ztunnel ${namespace}/${name} on ${nodeOf(pod)}`;
      const { status, text } = await podRequest(await cluster.dial({ namespace, name }, port), method, path, where);
      if (status === 200) return text;
      throw new CliError(`${where} answers ${status}: ${text.trim()}`, "correct the request, or see its log");
    },
  };
}

function onNode(pods: readonly Pod[], node: string): Pod {
  const pod = pods.find((candidate) => nodeOf(candidate) === node);
  if (pod !== undefined) return pod;
  const nodes = pods.map(nodeOf).join(", ");
  throw new CliError(`no ztunnel runs on the node ${node === "" ? "(none)" : node}`, `there is one on: ${nodes}`);
}

/** `pod.namespace`; names of pods may hold dots, names of namespaces may not. */
function splitName(text: string): [name: string, namespace: string | undefined] {
  const dot = text.lastIndexOf(".");
  return dot < 0 ? [text, undefined] : [text.slice(0, dot), text.slice(dot + 1)];
}

function nodeOf({ spec }: Pod): string {
  return spec?.nodeName ?? "";
}
