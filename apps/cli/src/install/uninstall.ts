import {
  BOOT_ID_ANNOTATION,
  CAPTURED_CONDITION,
  type Clock,
  LEAVING_ANNOTATION,
  LEFT_ANNOTATION,
  REDIRECTION_ANNOTATION,
  ROOT_CERT_CONFIG_MAP,
  sleep,
  systemClock,
} from "@tulle/base";
import { CONFIG_MAP, DAEMON_SET, DEPLOYMENT, NAMESPACE, type Pod, POD, SECRET, type Store } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import type { ClusterFlags } from "../command.ts";
import type { CliContext } from "../context.ts";
import { type Progress, terminalProgress } from "../ui/progress.ts";
import { INSTALLATION_LABEL, ISTIOD, NODE_AGENT, ZTUNNEL } from "./manifests/common.ts";
import { installedObjects } from "./prune.ts";
import { listPurge, type Purge, purge, purgeText } from "./purge.ts";

export interface UninstallFlags extends ClusterFlags {
  readonly purge: boolean;
  readonly skipConfirmation: boolean;
  /** Seconds. */
  readonly timeout: number;
}

interface Run {
  readonly store: Store;
  readonly progress: Progress;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly namespace: string;
}

const POLL_MS = 500;
/** Made by the control plane for itself; a CA that the user brought is in `cacerts` and stays. */
const SELF_SIGNED_CA_SECRET = "istio-ca-secret";
const MAX_NAMED = 10;

/**
 * `tulle uninstall`: node agents first, because only they can take rules, files and annotations away and because proxies
 * and control plane have to run until the last captured connection is through.
 */
export async function uninstall(context: CliContext, flags: UninstallFlags): Promise<void> {
  const namespace = flags.istioNamespace;
  await using cluster = await context.connect(flags);
  const { store } = cluster;
  const progress = terminalProgress(context.process.stderr, context.process.env);
  const run: Run = { store, progress, clock: systemClock, timeoutMs: flags.timeout * 1000, namespace };

  const there = await installedObjects(store, namespace);
  const purged = flags.purge ? await listPurge(store, namespace) : undefined;
  if (there.length === 0 && (purged === undefined || purged.crds.length === 0)) {
    throw new CliError(
      `Tulle is not installed in the namespace ${namespace} of ${cluster.name}`,
      "name the namespace with --istio-namespace; tulle status shows what there is",
    );
  }
  if (purged !== undefined) context.process.stdout.write(purgeText(purged));
  if (!flags.skipConfirmation)
    await confirm(context, `Remove Tulle from the namespace ${namespace} of ${cluster.name}?`, purged);

  await removeWorkload(run, DAEMON_SET, NODE_AGENT, { "k8s-app": NODE_AGENT });
  await clearAnnotations(run);
  await removeWorkload(run, DAEMON_SET, ZTUNNEL, { app: ZTUNNEL });
  await removeWorkload(run, DEPLOYMENT, ISTIOD, { app: ISTIOD });
  // Listed anew: nobody has to trust what was true before the pods went.
  for (const { kind, object } of await installedObjects(store, namespace)) {
    await store.delete(kind, object.metadata);
    progress.done(`${kind.kind} ${object.metadata.name} removed`);
  }
  await removeTraces(run);
  if (purged !== undefined) await purge(store, purged, progress);
  const kept =
    purged === undefined ? "; schemas (CRDs), their objects and the namespace are kept (--purge removes them)" : "";
  context.process.stdout.write(`Tulle is removed from the namespace ${namespace}${kept}\n`);
}

async function confirm(context: CliContext, question: string, purged: Purge | undefined): Promise<void> {
  const answer = await context.ask(`${question} [y/N] `);
  if (answer === undefined) {
    // Without a terminal, taking away the users' own objects needs an explicit word.
    if (purged === undefined) return;
    throw new CliError(
      "--purge removes the objects above, and nobody is there to be asked",
      "pass --skip-confirmation",
    );
  }
  if (!/^y(es)?$/i.test(answer.trim()))
    throw new CliError("nothing was changed", "answer y, or pass --skip-confirmation");
}

async function removeWorkload(
  run: Run,
  kind: typeof DAEMON_SET | typeof DEPLOYMENT,
  name: string,
  labels: Readonly<Record<string, string>>,
): Promise<void> {
  const { store, namespace, progress, clock } = run;
  const object = await store.get(kind, { namespace, name });
  if (object !== undefined && object.metadata.labels?.[INSTALLATION_LABEL] !== namespace) return;
  if (object !== undefined) await store.delete(kind, { namespace, name });
  const end = clock.now() + run.timeoutMs;
  while (true) {
    const pods = await store.list(POD, { namespace, labels: { ...labels, [INSTALLATION_LABEL]: namespace } });
    if (pods.length === 0) break;
    progress.working(`waiting until ${pods.length} pods of ${name} have ended`);
    if (clock.now() >= end) {
      throw new CliError(
        `pods of ${name} have not ended after ${run.timeoutMs / 1000} s: ${named(pods)}`,
        `see why: kubectl -n ${namespace} describe pods; then repeat tulle uninstall`,
      );
    }
    await sleep(POLL_MS);
  }
  if (object !== undefined) progress.done(`${kind.kind} ${name} removed`);
}

/** A node whose agent could not tidy up leaves its word behind; nobody stands for it any more. */
async function clearAnnotations(run: Run): Promise<void> {
  const keys = [REDIRECTION_ANNOTATION, BOOT_ID_ANNOTATION, LEAVING_ANNOTATION, LEFT_ANNOTATION];
  const annotations = Object.fromEntries(keys.map((key) => [key, null]));
  const left: Pod[] = [];
  for (const pod of await run.store.list(POD)) {
    const { metadata, status } = pod;
    const annotated = keys.some((key) => metadata.annotations?.[key] !== undefined);
    const condition = (status?.conditions ?? []).findIndex(({ type }) => type === CAPTURED_CONDITION);
    if (annotated) {
      const body = { metadata: { annotations } };
      await run.store.patch(POD, metadata, { type: "merge", body }, { subresource: "status" });
    }
    if (condition >= 0) {
      const path = `/status/conditions/${condition}`;
      const body = [
        { op: "test", path: `${path}/type`, value: CAPTURED_CONDITION },
        { op: "remove", path },
      ] as const;
      await run.store.patch(POD, metadata, { type: "json", body }, { subresource: "status" });
    }
    if (annotated || condition >= 0) left.push(pod);
  }
  if (left.length === 0) return;
  run.progress.warn(
    `the node agent did not release ${named(left)}: its marks are gone, but restart these pods, because rules may be left in them`,
  );
}

/** What the control plane has made. */
async function removeTraces(run: Run): Promise<void> {
  const { store, namespace, progress } = run;
  const roots = await store.list(CONFIG_MAP, { labels: { "istio.io/config": "true" } });
  const ours = roots.filter(({ metadata }) => metadata.name === ROOT_CERT_CONFIG_MAP);
  for (const { metadata } of ours) await store.delete(CONFIG_MAP, metadata);
  if (ours.length > 0) progress.done(`ConfigMap ${ROOT_CERT_CONFIG_MAP} removed from ${ours.length} namespaces`);
  if ((await store.get(NAMESPACE, { name: namespace })) === undefined) return;
  if ((await store.get(SECRET, { namespace, name: SELF_SIGNED_CA_SECRET })) === undefined) return;
  await store.delete(SECRET, { namespace, name: SELF_SIGNED_CA_SECRET });
  progress.done(`Secret ${SELF_SIGNED_CA_SECRET} removed`);
}

function named(pods: readonly Pod[]): string {
  const names = pods.map(
    ({ metadata, spec }) => `${metadata.namespace}/${metadata.name} (${spec?.nodeName ?? "no node"})`,
  );
  const more = names.length > MAX_NAMED ? ` and ${names.length - MAX_NAMED} more` : "";
  return names.slice(0, MAX_NAMED).join(", ") + more;
}
