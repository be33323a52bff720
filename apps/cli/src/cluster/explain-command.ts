import { DEPLOYMENT, type KubeObject, type Pod, POD } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import { FAILED, type MeshFlags } from "../command.ts";
import type { CliContext } from "../context.ts";
import type { Cluster } from "../kube/cluster.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { CROSS, styleFor, TICK, WARNING } from "../ui/style.ts";
import { renderTable } from "../ui/table.ts";
import { selectZtunnels } from "../ztunnel-config/proxies.ts";

export interface ExplainFlags extends MeshFlags {
  readonly namespace?: string | undefined;
  readonly output: OutputFormat;
  readonly proxyAdminPort: number;
}

/** What ztunnel answers to GET /explain. */
interface Explanation {
  readonly outcome: "hbone" | "plaintext" | "passthrough" | "refused" | "denied" | "unknown";
  readonly steps: readonly { readonly code: string; readonly text: string }[];
  readonly waypoint?: string;
  readonly policy?: string;
}

/** What the outcome means, and what to do about it. */
const OUTCOMES: Readonly<
  Record<Explanation["outcome"], { state: "ok" | "warning" | "failed"; text: string; next: string }>
> = {
  hbone: { state: "ok", text: "the connection is encrypted and allowed", next: "" },
  plaintext: {
    state: "warning",
    text: "the connection is not encrypted: the other side is not in the mesh",
    next: "label its namespace or pod: istio.io/dataplane-mode=ambient",
  },
  passthrough: {
    state: "warning",
    text: "the connection leaves the mesh unencrypted",
    next: "if it should not, see whether the service and its endpoints exist: kubectl get services,endpointslices",
  },
  refused: {
    state: "failed",
    text: "the connection is refused by the client's ztunnel",
    next: "mend what the last line names",
  },
  denied: {
    state: "failed",
    text: "the connection is denied at the destination",
    next: "change the policy, or the identity of the client",
  },
  unknown: { state: "failed", text: "it cannot be told", next: "correct what the last line names" },
};

/** `tulle explain from A to B:port`. Exit code 1 when the connection would not be made. */
export async function explainConnection(context: CliContext, flags: ExplainFlags, ...words: string[]): Promise<number> {
  const { from, to } = readWords(words);
  await using cluster = await context.connect(flags);
  const pod = await findPod(cluster, from, flags.namespace ?? cluster.namespace);
  const source = `${pod.metadata.namespace}/${pod.metadata.name}`;
  const { ztunnels } = await selectZtunnels(cluster, { ...flags, node: pod.spec?.nodeName ?? "" });
  const query = new URLSearchParams({ src: source, dst: to });
  const [ztunnel] = ztunnels;
  if (ztunnel === undefined) throw new CliError(`no ztunnel serves ${source}`, "see tulle status");
  const explanation = JSON.parse(await ztunnel.ask("GET", `/explain?${query.toString()}`)) as Explanation;
  const { stdout, env } = context.process;
  const { state, text, next } = OUTCOMES[explanation.outcome];
  if (flags.output === "json" || flags.output === "yaml") {
    stdout.write(await structured({ from: source, to, node: ztunnel.node, ...explanation }, flags.output));
  } else {
    const style = styleFor(stdout, env);
    const mark = { ok: style.good(TICK), warning: WARNING, failed: style.bad(CROSS) }[state];
    if (flags.output === "wide") {
      const rows = explanation.steps.map(({ code, text }) => [`  ${code}`, text]);
      stdout.write(`  from ${source} to ${to}, asked of the ztunnel ${ztunnel.name} on ${ztunnel.node}\n`);
      stdout.write(renderTable({ columns: ["  STEP", "FINDING"], rows }, 2));
    } else {
      for (const step of explanation.steps) stdout.write(`  ${step.text}\n`);
    }
    const policy = explanation.policy === undefined ? "" : ` (policy ${explanation.policy})`;
    const waypoint = explanation.waypoint === undefined ? "" : ` (through waypoint ${explanation.waypoint})`;
    stdout.write(`${mark} ${text}${policy}${waypoint}\n`);
    if (next !== "") stdout.write(`    ${next}\n`);
  }
  return state === "failed" ? FAILED : 0;
}

/** Throws CliError unless the words are `from A to B:port`. */
export function readWords(words: readonly string[]): { readonly from: string; readonly to: string } {
  const [first, from, second, to, ...rest] = words;
  if (first !== "from" || second !== "to" || from === undefined || to === undefined || rest.length > 0) {
    throw new CliError(
      `"${words.join(" ")}" is not a question`,
      "ask: tulle explain from productpage-v1 to reviews:9080 (a pod, its deployment or address; a name or address and port)",
    );
  }
  if (!/:\d{1,5}$/.test(to)) throw new CliError(`${to} has no port`, `ask with one: ${to}:80`);
  return { from, to };
}

/** `pod`, `namespace/pod`, `deploy/name`, `namespace/deploy/name`, or a pod's address. */
async function findPod(cluster: Cluster, text: string, namespace: string): Promise<Pod> {
  const { store } = cluster;
  const parts = text.split("/");
  const deployment = /^deploy(ment)?s?$/;
  if (parts.length === 1) {
    const pod = await store.get(POD, { namespace, name: text });
    if (pod !== undefined) return pod;
    const [byIp] = await store.list(POD, { fields: { "status.podIP": text } });
    if (byIp !== undefined && byIp.spec?.hostNetwork !== true) return byIp;
    return podOfDeployment(cluster, namespace, text, text);
  }
  if (parts.length === 2 && deployment.test(parts[0] ?? ""))
    return podOfDeployment(cluster, namespace, parts[1] ?? "", text);
  if (parts.length === 3 && deployment.test(parts[1] ?? ""))
    return podOfDeployment(cluster, parts[0] ?? "", parts[2] ?? "", text);
  const [podNamespace = "", name = ""] = parts;
  const pod = parts.length === 2 ? await store.get(POD, { namespace: podNamespace, name }) : undefined;
  return pod ?? podOfDeployment(cluster, podNamespace, name, text);
}

async function podOfDeployment({ store }: Cluster, namespace: string, name: string, asked: string): Promise<Pod> {
  const deployment = name === "" ? undefined : await store.get<KubeObject>(DEPLOYMENT, { namespace, name });
  const { selector } = (deployment?.["spec"] ?? {}) as {
    selector?: { matchLabels?: Readonly<Record<string, string>> };
  };
  const pods =
    selector?.matchLabels === undefined ? [] : await store.list(POD, { namespace, labels: selector.matchLabels });
  const running = pods
    .filter(({ status }) => status?.phase === "Running")
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const [pod] = running;
  if (pod !== undefined) return pod;
  throw new CliError(
    `there is no pod ${asked}, nor a deployment of that name with a running pod, in the namespace ${namespace}`,
    "name another namespace with --namespace or as namespace/pod",
  );
}
