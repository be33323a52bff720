import type { Clock } from "@tulle/base";
import type { KubeObject } from "@tulle/store";

/** A watch tells of a write within milliseconds; after this long it is believed again whatever it says. */
const REMEMBERED_MS = 10_000;
/** The writes of `REMEMBERED_MS` at the highest rate, and more. */
const MAX_REMEMBERED = 4_096;

/** Answers to our own writes, until the watch has caught up with them: else the old state would be judged again. */
export class RecentWrites {
  readonly #clock: Clock;
  readonly #written = new Map<string, { readonly object: KubeObject; readonly at: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(id: string, object: KubeObject): void {
    this.#written.delete(id);
    this.#written.set(id, { object, at: this.#clock.now() });
    for (const [old, { at }] of this.#written) {
      if (this.#written.size <= MAX_REMEMBERED && this.#clock.now() - at < REMEMBERED_MS) break;
      this.#written.delete(old);
    }
  }

  /** What was written, or what was seen, whichever is newer. */
  newer(id: string, seen: KubeObject): KubeObject {
    const known = this.#written.get(id);
    if (known === undefined) return seen;
    const { object, at } = known;
    const expired = this.#clock.now() - at >= REMEMBERED_MS;
    if (!expired && object.metadata.uid === seen.metadata.uid && isNewer(object, seen)) return object;
    this.#written.delete(id);
    return seen;
  }
}

/** Versions of one kind are numbers that grow (Kubernetes 1.35 and later say so; etcd's have always been). */
function isNewer(a: KubeObject, b: KubeObject): boolean {
  const [left, right] = [versionOf(a), versionOf(b)];
  return left !== undefined && right !== undefined && left > right;
}

function versionOf({ metadata }: KubeObject): bigint | undefined {
  const { resourceVersion = "" } = metadata;
  return /^\d{1,20}$/.test(resourceVersion) ? BigInt(resourceVersion) : undefined;
}
