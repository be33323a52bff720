import {
  BOOT_ID_ANNOTATION,
  CAPTURED_CONDITION,
  LEAVING_ANNOTATION,
  LEFT_ANNOTATION,
  REDIRECTION_ANNOTATION,
} from "@tulle/base";
import { type EventInput, type Store, StoreError } from "@tulle/store";
import { annotationOf, newerOf, PODS, type Pod, type PodCondition } from "../objects.ts";

/** What the agent writes on a pod: annotations by merge patch and one condition by server-side apply, both on its status. */

export interface PodStatusOptions {
  readonly store: Pick<Store, "patch" | "apply" | "event">;
  readonly bootId: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What is said of a pod's capture. `reason`: upper camel case, stable. */
export interface CaptureState {
  readonly captured: boolean;
  readonly reason: string;
  readonly message: string;
}

const MANAGER = "tulle-node-agent";
/** As istio and Kubernetes bound theirs; longer texts tell nobody more. */
const MAX_MESSAGE = 1000;

/** Every call returns the pod as it is afterwards; one that has gone meanwhile is returned as it was. */
export class PodStatus {
  readonly #options: PodStatusOptions;

  constructor(options: PodStatusOptions) {
    this.#options = options;
  }

  /** The pod is served: peers may send HBONE to it. */
  enabled(pod: Pod): Promise<Pod> {
    return this.#annotate(pod, {
      [REDIRECTION_ANNOTATION]: "enabled",
      [BOOT_ID_ANNOTATION]: this.#options.bootId,
      [LEAVING_ANNOTATION]: undefined,
      [LEFT_ANNOTATION]: undefined,
    });
  }

  /** The pod is to leave: the control plane answers in LEFT_ANNOTATION with the same id. */
  leaving(pod: Pod, id: string): Promise<Pod> {
    return this.#annotate(pod, {
      [REDIRECTION_ANNOTATION]: undefined,
      [BOOT_ID_ANNOTATION]: undefined,
      [LEAVING_ANNOTATION]: id,
      [LEFT_ANNOTATION]: undefined,
    });
  }

  /** The pod is not in the mesh: nothing of ours stays on it. */
  async outside(pod: Pod): Promise<Pod> {
    const bare = await this.#annotate(pod, {
      [REDIRECTION_ANNOTATION]: undefined,
      [BOOT_ID_ANNOTATION]: undefined,
      [LEAVING_ANNOTATION]: undefined,
      [LEFT_ANNOTATION]: undefined,
    });
    return conditionOf(bare) === undefined ? bare : this.#applyConditions(bare, []);
  }

  /** Peers must not send HBONE to it, for it is not served; the condition says why. */
  disabled(pod: Pod): Promise<Pod> {
    return this.#annotate(pod, { [REDIRECTION_ANNOTATION]: undefined, [BOOT_ID_ANNOTATION]: undefined });
  }

  condition(pod: Pod, state: CaptureState): Promise<Pod> {
    const known = conditionOf(pod);
    const status = state.captured ? "True" : "False";
    const message = state.message.length > MAX_MESSAGE ? `${state.message.slice(0, MAX_MESSAGE)}…` : state.message;
    if (known?.status === status && known.reason === state.reason && known.message === message) {
      return Promise.resolve(pod);
    }
    const since = known?.status === status ? known.lastTransitionTime : undefined;
    const lastTransitionTime = since ?? new Date(this.#options.now()).toISOString().replace(/\.\d+Z$/, "Z");
    return this.#applyConditions(pod, [
      { type: CAPTURED_CONDITION, status, reason: state.reason, message, lastTransitionTime },
    ]);
  }

  /** Never fails, and does not wait. */
  event(pod: Pod, event: EventInput): void {
    this.#options.store.event(pod, { ...event, message: event.message.slice(0, MAX_MESSAGE) });
  }

  /** Only what differs from what is known is written; the uid makes sure that it is still the same pod. */
  async #annotate(pod: Pod, wanted: Readonly<Record<string, string | undefined>>): Promise<Pod> {
    const changes = Object.entries(wanted).filter(([key, value]) => annotationOf(pod, key) !== value);
    if (changes.length === 0) return pod;
    const annotations = Object.fromEntries(changes.map(([key, value]) => [key, value ?? null]));
    const body = { metadata: { uid: pod.metadata.uid, annotations } };
    return this.#written(pod, this.#options.store.patch(PODS, refOf(pod), { type: "merge", body }, STATUS));
  }

  async #applyConditions(pod: Pod, conditions: readonly PodCondition[]): Promise<Pod> {
    const { name, namespace, uid } = pod.metadata;
    const object = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }) },
      // No list rather than an empty one: what this manager applied before and now omits goes, and nothing else.
      ...(conditions.length === 0 ? {} : { status: { conditions } }),
    };
    return this.#written(pod, this.#options.store.apply(PODS, object, { ...STATUS, manager: MANAGER }));
  }

  async #written(before: Pod, writing: Promise<Pod>): Promise<Pod> {
    try {
      return newerOf(before, await writing);
    } catch (error) {
      // The pod is gone, or another one has its name: there is nothing left to write on.
      if (isGone(error)) return before;
      throw error;
    }
  }
}

const STATUS = { subresource: "status" } as const;

export function conditionOf(pod: Pod): PodCondition | undefined {
  return pod.status?.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
}

function refOf(pod: Pod): { readonly name: string; readonly namespace: string } {
  return { name: pod.metadata.name, namespace: pod.metadata.namespace ?? "" };
}

/** The API server calls another uid an attempt to change it. */
function isGone(error: unknown): boolean {
  if (!(error instanceof StoreError)) return false;
  const { code, message } = error;
  return code === "NOT_FOUND" || code === "CONFLICT" || (code === "INVALID" && message.includes("metadata.uid"));
}
