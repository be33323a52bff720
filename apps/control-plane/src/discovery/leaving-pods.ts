import {
  type Clock,
  LEAVING_ANNOTATION,
  LEFT_ANNOTATION,
  type Log,
  messageOf,
  REDIRECTION_ANNOTATION,
} from "@tulle/base";
import { POD, type Pod, type Store } from "@tulle/store";

/** A node proxy that is connected, and does not hold a state yet. */
export interface LaggingProxy {
  readonly namespace: string;
  readonly pod: string;
}

export interface LeavingPodsOptions {
  /** Where the resources that are served stand now. */
  readonly position: () => number;
  /** Connected node proxies that do not hold the state of a position, or have refused the resource of this name. */
  readonly behind: (position: number, name: string) => readonly LaggingProxy[];
  /** Names of node proxies' pods (`namespace/name`) that should be connected, and are not. */
  readonly missing: () => readonly string[];
  /** The name of a pod's workload. */
  readonly resourceName: (pod: Pod) => string;
  /** Writes LEFT_ANNOTATION. */
  readonly write: (pod: Pod, id: string) => Promise<void>;
  readonly log: Log;
  readonly clock: Clock;
}

interface Leaving {
  pod: Pod;
  readonly id: string;
  readonly since: number;
  /** Undefined: a state in which the pod is not captured has not been served yet. */
  position: number | undefined;
  writing: boolean;
  attempts: number;
}

/** A proxy that should be here and is not may be about to come back with what it holds; not for longer than this. */
const MISSING_GRACE_MS = 5_000;
/** Acknowledgements come in crowds. */
const LOOK_AGAIN_MS = 2;
const RETRY_MS = 500;
/** Then the agent's own deadline decides. */
const MAX_ATTEMPTS = 20;

/**
 * Pods that leave the mesh: once every node proxy that is connected has acknowledged a state in which the pod is not
 * captured, the control plane says so on the pod (see LEAVING_ANNOTATION).
 */
export class LeavingPods {
  readonly #options: LeavingPodsOptions;
  readonly #leaving = new Map<string, Leaving>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: LeavingPodsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#leaving.size;
  }

  put(pod: Pod): void {
    const key = keyOf(pod);
    const { annotations } = pod.metadata;
    const id = annotations?.[LEAVING_ANNOTATION];
    const captured = annotations?.[REDIRECTION_ANNOTATION] === "enabled";
    if (id === undefined || annotations?.[LEFT_ANNOTATION] === id || captured) {
      this.#leaving.delete(key);
      return;
    }
    const known = this.#leaving.get(key);
    if (known?.id === id && known.pod.metadata.uid === pod.metadata.uid) known.pod = pod;
    else {
      const since = this.#options.clock.now();
      this.#leaving.set(key, { pod, id, since, position: undefined, writing: false, attempts: 0 });
    }
  }

  remove(pod: Pod): void {
    this.#leaving.delete(keyOf(pod));
  }

  /** What was put so far is in what is served now. */
  flushed(): void {
    for (const leaving of this.#leaving.values()) leaving.position ??= this.#options.position();
    this.look();
  }

  /** A proxy has acknowledged something, has come or has gone. */
  look(afterMs = LOOK_AGAIN_MS): void {
    if (this.#leaving.size === 0 || this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#lookNow();
    }, afterMs);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#leaving.clear();
  }

  #lookNow(): void {
    const missing = this.#options.missing();
    let waits = false;
    for (const leaving of this.#leaving.values()) {
      const { position, pod, since, writing } = leaving;
      if (position === undefined || writing || leaving.attempts >= MAX_ATTEMPTS) continue;
      if (this.#options.behind(position, this.#options.resourceName(pod)).length > 0) continue;
      if (missing.length > 0 && this.#options.clock.now() - since < MISSING_GRACE_MS) waits = true;
      else void this.#write(leaving);
    }
    if (waits) this.look(RETRY_MS);
  }

  async #write(leaving: Leaving): Promise<void> {
    const { pod, id } = leaving;
    const fields = { pod: keyOf(pod), id };
    leaving.writing = true;
    leaving.attempts++;
    try {
      await this.#options.write(pod, id);
      this.#options.log.info("every node proxy knows that the pod leaves the mesh", fields);
      if (this.#leaving.get(keyOf(pod)) === leaving) this.#leaving.delete(keyOf(pod));
    } catch (error) {
      leaving.writing = false;
      this.#options.log.warn("cannot note that a pod has left the mesh", { ...fields, error: messageOf(error) });
      this.look(RETRY_MS);
    }
  }
}

/** Writes LEFT_ANNOTATION. Only of the very pod: another one that has taken the name has not left. */
export async function writeLeft(store: Store, { metadata }: Pod, id: string): Promise<void> {
  const { namespace = "", name, uid } = metadata;
  const body = { metadata: { ...(uid === undefined ? {} : { uid }), annotations: { [LEFT_ANNOTATION]: id } } };
  await store.patch(POD, { namespace, name }, { type: "merge", body }, { subresource: "status" });
}

function keyOf(pod: Pod): string {
  return `${pod.metadata.namespace ?? ""}/${pod.metadata.name}`;
}
