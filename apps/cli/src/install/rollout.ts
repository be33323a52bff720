import { type Clock, sleep } from "@tulle/base";
import { DEPLOYMENT, type KubeObject, type Pod, POD, type ResourceKind, type Store } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import type { Progress } from "../ui/progress.ts";

/** Waits until what was applied runs. */

export interface Workload {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
  /** Labels of its pods. */
  readonly pods: Readonly<Record<string, string>>;
}

export interface RolloutState {
  readonly ready: number;
  readonly wanted: number;
  readonly done: boolean;
}

interface Status {
  readonly observedGeneration?: number;
  readonly replicas?: number;
  readonly updatedReplicas?: number;
  readonly readyReplicas?: number;
  readonly desiredNumberScheduled?: number;
  readonly updatedNumberScheduled?: number;
  readonly numberReady?: number;
  readonly numberUnavailable?: number;
}

/** What kubelet says of a container. */
interface ContainerState {
  readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
  readonly lastState?: { readonly terminated?: { readonly exitCode?: number } };
}

/** Often enough for a person who watches, seldom enough for the API server. */
const POLL_MS = 500;

/** How far a Deployment or DaemonSet is. */
export function rolloutState(kind: ResourceKind, object: KubeObject | undefined): RolloutState {
  if (object === undefined) return { ready: 0, wanted: 1, done: false };
  const status = (object["status"] ?? {}) as Status;
  const seen = (status.observedGeneration ?? 0) >= (object.metadata.generation ?? 0);
  if (kind.kind === DEPLOYMENT.kind) {
    const wanted = (object["spec"] as { readonly replicas?: number } | undefined)?.replicas ?? 1;
    const ready = status.readyReplicas ?? 0;
    const updated = status.updatedReplicas ?? 0;
    // Old pods that still run are not what was asked for.
    return { ready, wanted, done: seen && updated >= wanted && ready >= wanted && (status.replicas ?? 0) === updated };
  }
  const wanted = status.desiredNumberScheduled ?? 0;
  const ready = status.numberReady ?? 0;
  const updated = status.updatedNumberScheduled ?? 0;
  const done = seen && updated >= wanted && ready >= wanted && (status.numberUnavailable ?? 0) === 0;
  return { ready, wanted, done };
}

/** Rejects with CliError at the time limit: it says which pods are not ready and why. */
export async function waitForRollouts(
  store: Store,
  workloads: readonly Workload[],
  options: {
    readonly clock: Clock;
    readonly timeoutMs: number;
    readonly progress: Progress;
    readonly signal?: AbortSignal;
  },
): Promise<void> {
  const { clock, progress } = options;
  const started = clock.now();
  const open = new Set(workloads);
  while (true) {
    const waiting: string[] = [];
    for (const workload of open) {
      const state = rolloutState(workload.kind, await store.get(workload.kind, workload));
      if (state.done) {
        open.delete(workload);
        const seconds = ((clock.now() - started) / 1000).toFixed(1);
        progress.done(`${workload.name} is ready (${state.ready} of ${state.wanted}, ${seconds} s)`);
      } else {
        waiting.push(`${workload.name} ${state.ready}/${state.wanted}`);
      }
    }
    if (open.size === 0) return;
    progress.working(`waiting for ${waiting.join(", ")}`);
    if (clock.now() - started >= options.timeoutMs) throw await timedOut(store, [...open], options.timeoutMs);
    await sleep(POLL_MS, options.signal);
  }
}

async function timedOut(store: Store, workloads: readonly Workload[], timeoutMs: number): Promise<CliError> {
  const reasons: string[] = [];
  for (const { namespace, name, pods } of workloads) {
    const found = await store.list(POD, { namespace, labels: pods });
    const unready = found.map((pod) => whyNotReady(pod)).filter((reason) => reason !== undefined);
    reasons.push(...(unready.length > 0 ? unready : [`${name}: there are no pods yet`]));
  }
  return new CliError(
    `not ready after ${timeoutMs / 1000} s:\n${reasons.map((reason) => `  - ${reason}`).join("\n")}`,
    `look closer: kubectl -n ${workloads[0]?.namespace} describe pods; what is applied stays, so tulle install can be repeated`,
  );
}

/** `ztunnel-abcde on n1: ImagePullBackOff: …`, or undefined when the pod is ready. */
export function whyNotReady(pod: Pod): string | undefined {
  const { status } = pod;
  if (status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True")) return undefined;
  const where = `${pod.metadata.name}${pod.spec?.nodeName === undefined ? "" : ` on ${pod.spec.nodeName}`}`;
  for (const { state, lastState } of (status?.containerStatuses ?? []) as readonly ContainerState[]) {
    const waiting = state?.waiting;
    const before = lastState?.terminated;
    if (waiting?.reason === undefined) continue;
    const exit = before === undefined ? "" : ` (it ended with exit code ${before.exitCode})`;
    return `${where}: ${waiting.reason}${waiting.message === undefined ? "" : `: ${waiting.message}`}${exit}`;
  }
  const condition = status?.conditions?.find(({ status, message }) => status === "False" && (message ?? "") !== "");
  return `${where}: ${condition?.message ?? status?.phase ?? "no status yet"}`;
}
