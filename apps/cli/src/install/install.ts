import { type Clock, ROOT_CERT_CONFIG_MAP, sleep, systemClock } from "@tulle/base";
import {
  CONFIG_MAP,
  CUSTOM_RESOURCE_DEFINITION,
  type CustomResourceDefinition,
  DAEMON_SET,
  DEPLOYMENT,
  type KubeObject,
  type Store,
} from "@tulle/store";
import { CliError } from "../cli-error.ts";
import type { ClusterFlags } from "../command.ts";
import type { CliContext } from "../context.ts";
import { VERSION } from "../version.ts";
import { type Progress, terminalProgress } from "../ui/progress.ts";
import { type Applied, applyObject } from "./apply.ts";
import { otherMeshes, refuseBeside } from "./conflicts.ts";
import { ISTIOD, NODE_AGENT, ZTUNNEL } from "./manifests/common.ts";
import { readCrds } from "./manifests/crds.ts";
import { manifests } from "./manifests/manifests.ts";
import { prune } from "./prune.ts";
import { waitForRollouts, type Workload } from "./rollout.ts";
import { readInput, type ValueFlags } from "./sources.ts";
import { requireSupportedVersion } from "./versions.ts";

export interface InstallFlags extends ClusterFlags, ValueFlags {
  readonly skipConfirmation: boolean;
  readonly dryRun: boolean;
  /** Seconds. */
  readonly timeout: number;
}

/** What the steps of an installation share. */
interface Run {
  readonly store: Store;
  readonly progress: Progress;
  readonly clock: Clock;
  readonly dryRun: boolean;
  readonly timeoutMs: number;
}

const ESTABLISHED_POLL_MS = 100;
/** A ready control plane has written them a moment ago. */
const ROOTS_MS = 5000;
const ROOTS_POLL_MS = 100;

/** `tulle install`: puts everything into the cluster and waits until it runs. Repeating it is an upgrade. */
export async function install(context: CliContext, flags: InstallFlags): Promise<void> {
  const input = await readInput(context, flags);
  const { namespace } = input;
  await using cluster = await context.connect(flags);
  const { store } = cluster;
  const progress = terminalProgress(context.process.stderr, context.process.env);
  const run: Run = { store, progress, clock: systemClock, dryRun: flags.dryRun, timeoutMs: flags.timeout * 1000 };

  requireSupportedVersion(await cluster.serverVersion());
  refuseBeside(await otherMeshes(store, namespace));
  const before = await store.get(DEPLOYMENT, { namespace, name: ISTIOD });
  if (!flags.dryRun && !flags.skipConfirmation) {
    const verb = before === undefined ? "Install" : "Upgrade to";
    await confirm(context, `${verb} Tulle ${VERSION} in the namespace ${namespace} of ${cluster.name}?`);
  }

  const objects = manifests(input, readCrds());
  // The control plane runs before its proxies change. A first ztunnel needs the root certificate that it writes: kubelet
  // tries again only after tens of seconds when a ConfigMap is missing.
  const isDataPlane = (object: KubeObject) => object.kind === DAEMON_SET.kind;
  await applyAll(
    run,
    objects.filter((object) => !isDataPlane(object)),
  );
  if (!flags.dryRun) {
    await wait(run, [controlPlane(namespace)]);
    await rootsWritten(run, namespace);
  }
  await applyAll(run, objects.filter(isDataPlane));
  for (const { kind, object } of await prune(store, namespace, objects, flags.dryRun)) {
    progress.done(
      `${kind.kind} ${object.metadata.name} is not part of it any more: ${flags.dryRun ? "would be removed" : "removed"}`,
    );
  }
  if (flags.dryRun) {
    progress.done("dry run: nothing was changed");
    return;
  }
  await wait(run, dataPlane(namespace));
  context.process.stdout.write(
    `Tulle ${VERSION} is installed. Enrol a namespace: kubectl label namespace default istio.io/dataplane-mode=ambient\n`,
  );
}

/** Throws CliError unless somebody says yes, or nobody is there to be asked. */
async function confirm(context: CliContext, question: string): Promise<void> {
  const answer = await context.ask(`${question} [y/N] `);
  if (answer === undefined || /^y(es)?$/i.test(answer.trim())) return;
  throw new CliError("nothing was changed", "answer y, or pass --skip-confirmation");
}

async function applyAll(run: Run, objects: readonly KubeObject[]): Promise<void> {
  const crds: Applied[] = [];
  for (const object of objects) {
    const isCrd = object.kind === CUSTOM_RESOURCE_DEFINITION.kind;
    if (crds.length > 0 && !isCrd) await finishCrds(run, crds.splice(0));
    run.progress.working(`${object.kind} ${object.metadata.name}`);
    const applied = await applyObject(run.store, object, run.dryRun);
    if (isCrd) crds.push(applied);
    else run.progress.done(`${object.kind} ${object.metadata.name} ${outcomeText(applied, run.dryRun)}`);
  }
  if (crds.length > 0) await finishCrds(run, crds);
}

/** One line for all schemas; waits until the API server serves them. */
async function finishCrds(run: Run, crds: readonly Applied[]): Promise<void> {
  if (!run.dryRun) {
    for (const { object, outcome } of crds) {
      if (outcome === "created" || outcome === "configured") await established(run, object.metadata.name);
    }
  }
  const counts = new Map<string, number>();
  for (const applied of crds) {
    const text = outcomeText(applied, run.dryRun);
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  run.progress.done(`schemas (CRDs): ${[...counts].map(([text, count]) => `${count} ${text}`).join(", ")}`);
}

/** Bounded, and no error: kubelet waits for it, too. */
async function rootsWritten(run: Run, namespace: string): Promise<void> {
  const end = run.clock.now() + ROOTS_MS;
  while (run.clock.now() < end) {
    if ((await run.store.get(CONFIG_MAP, { namespace, name: ROOT_CERT_CONFIG_MAP })) !== undefined) return;
    await sleep(ROOTS_POLL_MS);
  }
}

async function established(run: Run, name: string): Promise<void> {
  const end = run.clock.now() + run.timeoutMs;
  while (true) {
    const crd: CustomResourceDefinition | undefined = await run.store.get(CUSTOM_RESOURCE_DEFINITION, { name });
    const conditions = crd?.status?.conditions ?? [];
    if (conditions.some(({ type, status }) => type === "Established" && status === "True")) return;
    const refused = conditions.find(({ type, status }) => type === "NamesAccepted" && status === "False");
    if (refused !== undefined || run.clock.now() > end) {
      throw new CliError(
        `the API server does not serve ${name}: ${refused?.message ?? "no reason given"}`,
        `look closer: kubectl describe crd ${name}`,
      );
    }
    await sleep(ESTABLISHED_POLL_MS);
  }
}

function outcomeText({ outcome, reason }: Applied, dryRun: boolean): string {
  if (outcome === "unchanged") return outcome;
  if (outcome === "kept") return `kept (${reason})`;
  return dryRun ? `would be ${outcome}` : outcome;
}

async function wait(run: Run, workloads: readonly Workload[]): Promise<void> {
  await waitForRollouts(run.store, workloads, { clock: run.clock, timeoutMs: run.timeoutMs, progress: run.progress });
}

export function controlPlane(namespace: string): Workload {
  return { kind: DEPLOYMENT, namespace, name: ISTIOD, pods: { app: ISTIOD } };
}

export function dataPlane(namespace: string): Workload[] {
  return [
    { kind: DAEMON_SET, namespace, name: NODE_AGENT, pods: { "k8s-app": NODE_AGENT } },
    { kind: DAEMON_SET, namespace, name: ZTUNNEL, pods: { app: ZTUNNEL } },
  ];
}
