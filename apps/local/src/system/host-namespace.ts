import { closeSync, openSync } from "node:fs";

/**
 * The host's network namespace under a path for other processes. `/proc/PID/ns/net` would not do: this process enters others
 * to start programs there, and who looked at such a moment took a pod's namespace for the host's.
 */
export class HostNamespace implements Disposable {
  readonly #descriptor = openSync("/proc/self/ns/net", "r");

  /** As long as it is not disposed of. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#descriptor}`;
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}
