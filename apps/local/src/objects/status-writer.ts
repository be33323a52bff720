import { Backoff, type Log, messageOf, sleep } from "@tulle/base";
import { type KubeObject, type ResourceKind, type Store, StoreError } from "@tulle/store";

/** Field manager of everything that the local mesh writes. */
export const MANAGER = "tulle-local";

export interface StatusWriterOptions {
  readonly store: Pick<Store, "apply">;
  readonly kind: ResourceKind;
  /** Whose status; the uid makes sure that it is still that one's. */
  readonly about: KubeObject;
  readonly log: Log;
}

const RETRY = { initialMs: 50, maxMs: 2000 };

/** Writes one object's status: the newest that was set, one write at a time, until it is written or the object is gone. */
export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #stop = new AbortController();
  #wanted: object | undefined;
  #active = false;
  #running: Promise<void> | undefined;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
  }

  set(status: object): void {
    if (this.#stop.signal.aborted) return;
    this.#wanted = status;
    if (this.#active) return;
    this.#active = true;
    this.#running = this.#run();
  }

  /** Nothing is written any more when it resolves. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { store, kind, about, log } = this.#options;
    const { apiVersion, metadata } = about;
    const { name, namespace, uid } = metadata;
    const ref = { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }) };
    const backoff = new Backoff(RETRY);
    let written = "";
    while (this.#wanted !== undefined && !this.#stop.signal.aborted) {
      const status = this.#wanted;
      const text = JSON.stringify(status);
      try {
        if (text !== written) {
          const object = { apiVersion, kind: about.kind, metadata: ref, status };
          await store.apply(kind, object, { manager: MANAGER, subresource: "status" });
        }
        written = text;
        if (this.#wanted === status) this.#wanted = undefined;
        backoff.reset();
      } catch (error) {
        // Gone, or another one has its name: there is nothing to say any more.
        if (error instanceof StoreError && (error.code === "NOT_FOUND" || error.code === "CONFLICT")) break;
        log.warn(`the status of ${about.kind} ${name} is not written yet: ${messageOf(error)}`);
        await sleep(backoff.next(), this.#stop.signal);
      }
    }
    this.#active = false;
  }
}
