import { ROOT_CERT_CONFIG_MAP } from "@tulle/base";
import {
  CONFIG_MAP,
  CUSTOM_RESOURCE_DEFINITION,
  type KubeObject,
  MUTATING_WEBHOOK_CONFIGURATION,
  NAMESPACE,
  NODE,
  POD,
  type ResourceKind,
  resourceName,
  SELF_SUBJECT_ACCESS_REVIEW,
  SERVICE,
  type Store,
  StoreError,
  VALIDATING_WEBHOOK_CONFIGURATION,
} from "@tulle/store";
import { otherMeshes } from "../install/conflicts.ts";
import { INSTALLED_KINDS } from "../install/prune.ts";
import { versionProblem } from "../install/versions.ts";
import type { Cluster } from "../kube/cluster.ts";
import { listBadConditions } from "./conditions.ts";
import { enrolmentSettings, isOurs, meshedPods, nodeStates, partStates, withReasons } from "./parts.ts";

/** What can be wrong with a cluster before and after the installation. */

export interface CheckOptions {
  /** Where Tulle is, or is to be. */
  readonly namespace: string;
  /** Name everything, however much it is. */
  readonly all: boolean;
}

export interface Finding {
  readonly state: "ok" | "warning" | "failed";
  readonly text: string;
  /** What to do; empty when it is well. */
  readonly next: string;
}

/** Images are built for it only. */
const ARCHITECTURE = "amd64";
/** Chains of the family inet with NAT; see docs/not-covered.md. */
const OLDEST_KERNEL = [5, 2] as const;
/** Unless everything is asked for. */
const MAX_NAMED = 5;
/** Nobody runs pods of ours there. */
const WITHOUT_ROOTS = new Set(["kube-public", "kube-node-lease", "local-path-storage"]);

const ok = (text: string): Finding => ({ state: "ok", text, next: "" });
const failed = (text: string, next: string): Finding => ({ state: "failed", text, next });
const warning = (text: string, next: string): Finding => ({ state: "warning", text, next });

/** Before the installation. */
export async function* preChecks(cluster: Cluster, { namespace, all }: CheckOptions): AsyncGenerator<Finding> {
  const limit = limitOf(all);
  const version = yield* apiServer(cluster);
  if (version === undefined) return;
  yield* permissions(cluster.store);
  yield* others(cluster.store, namespace);
  yield* machines(cluster.store, limit);
  yield* webhooks(cluster.store);
}

/** After it. */
export async function* installedChecks(cluster: Cluster, { namespace, all }: CheckOptions): AsyncGenerator<Finding> {
  const limit = limitOf(all);
  const version = yield* apiServer(cluster);
  if (version === undefined) return;
  const { store } = cluster;
  if (!(await isOurs(store, namespace))) {
    yield failed(`Tulle is not installed in the namespace ${namespace}`, "tulle check --pre, then tulle install");
    yield* others(store, namespace);
    return;
  }
  yield* others(store, namespace);
  yield* machines(store, limit);
  yield* schemas(store, limit);
  yield* parts(store, namespace, limit);
  yield* roots(store, limit);
  yield* pods(store, namespace, limit);
  yield* asWritten(store, limit);
  yield* webhooks(store);
}

async function* apiServer(cluster: Cluster): AsyncGenerator<Finding, string | undefined> {
  try {
    const version = await cluster.serverVersion();
    const problem = versionProblem(version);
    if (problem === undefined) yield ok(`the API server answers: Kubernetes ${version}`);
    else yield failed(problem, "upgrade the cluster, or choose another one with --context");
    return version;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    yield failed(error.message, "see kubectl cluster-info; choose another cluster with --kubeconfig and --context");
    return undefined;
  }
}

async function* permissions(store: Store): AsyncGenerator<Finding> {
  const missing: string[] = [];
  for (const kind of [NAMESPACE, CUSTOM_RESOURCE_DEFINITION, ...INSTALLED_KINDS]) {
    for (const verb of ["get", "list", "create", "patch", "delete"]) {
      if (!(await allowed(store, verb, kind))) missing.push(`${verb} ${resourceName(kind)}`);
    }
  }
  if (missing.length === 0) yield ok("you may create everything that an installation has");
  else
    yield failed(`you may not: ${missing.join(", ")}`, "install as cluster-admin, or ask for a role with these rights");
}

async function allowed(store: Store, verb: string, { group, plural }: ResourceKind): Promise<boolean> {
  const review = await store.create(SELF_SUBJECT_ACCESS_REVIEW, {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    metadata: { name: "" },
    spec: { resourceAttributes: { verb, group, resource: plural } },
  });
  return review.status?.allowed === true;
}

async function* others(store: Store, namespace: string): AsyncGenerator<Finding> {
  const found = await otherMeshes(store, namespace);
  if (found.length === 0) yield ok("there is no other mesh");
  for (const { what, tulleIn } of found) {
    yield failed(
      tulleIn === undefined
        ? `${what} belongs to another mesh`
        : `${what} belongs to the Tulle in the namespace ${tulleIn}`,
      tulleIn === undefined
        ? "remove it before installing: istioctl uninstall --purge"
        : `use --istio-namespace ${tulleIn}`,
    );
  }
}

async function* machines(store: Store, limit: number): AsyncGenerator<Finding> {
  const nodes = await store.list(NODE);
  const about = nodes.map(({ metadata, status }) => ({ name: metadata.name, info: status?.nodeInfo }));
  const foreign = about.filter(({ info }) => info?.architecture !== undefined && info.architecture !== ARCHITECTURE);
  const old = about.filter(({ info }) => isOld(info?.kernelVersion ?? ""));
  if (nodes.length === 0) yield warning("there are no nodes yet", "pods start once there are");
  if (foreign.length > 0) {
    yield failed(
      `images are for ${ARCHITECTURE} only: ${names(foreign, limit)}`,
      "keep meshed pods off these nodes, or use others",
    );
  }
  if (old.length > 0) {
    yield failed(
      `the kernel is older than ${OLDEST_KERNEL.join(".")} on: ${names(old, limit)}`,
      "upgrade the system of these nodes",
    );
  }
  if (nodes.length > 0 && foreign.length === 0 && old.length === 0) {
    yield ok(`${nodes.length} nodes have a kernel and a processor that will do`);
  }
}

function isOld(kernel: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(kernel) ?? [];
  if (major === undefined) return false;
  return Number(major) < OLDEST_KERNEL[0] || (Number(major) === OLDEST_KERNEL[0] && Number(minor) < OLDEST_KERNEL[1]);
}

async function* schemas(store: Store, limit: number): AsyncGenerator<Finding> {
  const { readCrds } = await import("../install/manifests/crds.ts");
  const there = new Map((await store.list(CUSTOM_RESOURCE_DEFINITION)).map((crd) => [crd.metadata.name, crd]));
  const missing = readCrds()
    .map(({ metadata }) => ({ name: metadata.name }))
    .filter(({ name }) => {
      const conditions = there.get(name)?.status?.conditions;
      return conditions?.some(({ type, status }) => type === "Established" && status === "True") !== true;
    });
  if (missing.length === 0) yield ok("the schemas (CRDs) of Gateway API and Istio are served");
  else yield failed(`schemas are missing: ${names(missing, limit)}`, "repeat tulle install");
}

async function* parts(store: Store, namespace: string, limit: number): AsyncGenerator<Finding> {
  for (const { name, ok: well, version, ready, wanted } of await partStates(store, namespace)) {
    if (well) yield ok(`${name} ${version} is ready (${ready} of ${wanted})`);
    else if (version === undefined) yield failed(`${name} is not there`, "repeat tulle install");
    else yield failed(`${name} is not ready: ${ready} of ${wanted}`, `see kubectl -n ${namespace} describe pods`);
  }
  const bare = (await nodeStates(store, namespace)).filter(
    (node) => node.ready && !(node.agentReady && node.ztunnelReady),
  );
  if (bare.length === 0) return;
  yield failed(
    `nodes without a node agent or ztunnel that is ready: ${names(bare, limit)}`,
    `new meshed pods cannot start there; see kubectl -n ${namespace} get pods -o wide`,
  );
}

async function* roots(store: Store, limit: number): AsyncGenerator<Finding> {
  const found = await store.list(CONFIG_MAP, { fields: { "metadata.name": ROOT_CERT_CONFIG_MAP } });
  const having = new Set(found.map(({ metadata }) => metadata.namespace));
  const lacking = (await store.list<KubeObject>(NAMESPACE))
    .filter(({ metadata }) => !WITHOUT_ROOTS.has(metadata.name) && metadata.deletionTimestamp === undefined)
    .filter(({ metadata }) => !having.has(metadata.name))
    .map(({ metadata }) => ({ name: metadata.name }));
  if (lacking.length === 0) yield ok("every namespace has the mesh's root certificate");
  else
    yield failed(
      `namespaces without ConfigMap ${ROOT_CERT_CONFIG_MAP}: ${names(lacking, limit)}`,
      "see the log of istiod",
    );
}

async function* pods(store: Store, namespace: string, limit: number): AsyncGenerator<Finding> {
  const namespaces = await store.list<KubeObject>(NAMESPACE);
  const all = await store.list(POD);
  const meshed = await withReasons(store, meshedPods(all, namespaces, await enrolmentSettings(store, namespace)));
  const missed = meshed.filter(({ captured }) => !captured);
  if (missed.length === 0) yield ok(`all ${meshed.length} meshed pods are captured`);
  for (const { pod, reason } of missed.slice(0, limit)) {
    yield failed(
      `${pod.metadata.namespace}/${pod.metadata.name} is meshed but not captured: ${reason ?? "no reason given"}`,
      `see kubectl -n ${pod.metadata.namespace} describe pod ${pod.metadata.name}, and the node agent on ${pod.spec?.nodeName}: kubectl -n ${namespace} logs -l k8s-app=istio-cni-node`,
    );
  }
  if (missed.length > limit) yield failed(`and ${missed.length - limit} more pods`, "tulle check -o wide lists them");
  const ambient = new Set(
    namespaces
      .filter(({ metadata }) => metadata.labels?.["istio.io/dataplane-mode"] === "ambient")
      .map(({ metadata }) => metadata.name),
  );
  const host = all.filter(({ metadata, spec }) => spec?.hostNetwork === true && ambient.has(metadata.namespace ?? ""));
  if (host.length > 0) {
    const pods = host.map(({ metadata }) => ({ name: `${metadata.namespace}/${metadata.name}` }));
    yield warning(
      `pods in the host's network cannot be in the mesh: ${names(pods, limit)}`,
      "their traffic has no identity; policies must not rely on one",
    );
  }
  const both = namespaces.filter(
    ({ metadata }) => ambient.has(metadata.name) && metadata.labels?.["istio-injection"] === "enabled",
  );
  if (both.length > 0) {
    const shown = both.map(({ metadata }) => ({ name: metadata.name }));
    yield warning(`namespaces ask for sidecars as well: ${names(shown, limit)}`, "take the label istio-injection away");
  }
}

async function* asWritten(store: Store, limit: number): AsyncGenerator<Finding> {
  const bad = await listBadConditions(store);
  if (bad.length === 0) yield ok("policies, services, entries and pods are in effect as written");
  for (const { kind, namespace, name, type, status, message } of bad.slice(0, limit)) {
    yield warning(`${kind} ${namespace}/${name}: ${type}=${status}: ${message}`, "change what the message names");
  }
  if (bad.length > limit) yield warning(`and ${bad.length - limit} more conditions`, "tulle check -o wide lists them");
}

/** Webhooks for Istio's kinds whose service is gone refuse every change of them. */
async function* webhooks(store: Store): AsyncGenerator<Finding> {
  let dangling = 0;
  for (const kind of [VALIDATING_WEBHOOK_CONFIGURATION, MUTATING_WEBHOOK_CONFIGURATION]) {
    for (const object of await store.list<KubeObject>(kind)) {
      for (const webhook of (object["webhooks"] ?? []) as readonly Webhook[]) {
        const { service } = webhook.clientConfig ?? {};
        if (!isIstios(webhook) || service === undefined || webhook.failurePolicy === "Ignore") continue;
        const found = await store.get(SERVICE, { namespace: service.namespace, name: service.name });
        const port = service.port ?? HTTPS;
        if (found?.spec?.ports?.some((each) => each.port === port) === true) continue;
        dangling += 1;
        yield failed(
          `${kind.kind} ${object.metadata.name} asks ${service.namespace}/${service.name}:${port}, which is not there: changes are refused`,
          `kubectl delete ${kind.plural.replace(/s$/, "")} ${object.metadata.name}`,
        );
        break;
      }
    }
  }
  if (dangling === 0) yield ok("no webhook of another mesh is in the way");
}

interface Webhook {
  readonly failurePolicy?: string;
  readonly clientConfig?: {
    readonly service?: { readonly namespace: string; readonly name: string; readonly port?: number };
  };
  readonly rules?: readonly { readonly apiGroups?: readonly string[] }[];
  readonly name?: string;
}

const HTTPS = 443;

function isIstios({ name = "", rules = [] }: Webhook): boolean {
  return (
    name.endsWith("istio.io") ||
    rules.some(({ apiGroups = [] }) => apiGroups.some((group) => group.endsWith("istio.io")))
  );
}

function limitOf(all: boolean): number {
  return all ? Number.POSITIVE_INFINITY : MAX_NAMED;
}

function names(list: readonly { readonly name: string }[], limit: number): string {
  const more = list.length > limit ? ` and ${list.length - limit} more` : "";
  const shown = list.slice(0, limit).map(({ name }) => name);
  return `${shown.join(", ")}${more}`;
}
