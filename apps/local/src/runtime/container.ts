import { Backoff, sleep } from "@tulle/base";
import { Child, type ChildOptions, describeExit, onlyChildOf } from "./child-process.ts";
import { LAUNCH_SCRIPT } from "./container-root.ts";
import type { LogFile } from "./log-file.ts";
import { namespacePath } from "./network.ts";

/** One container of a pod: a process in the pod's network namespace, with nothing of the host's but its libraries. */

export interface ContainerOptions {
  readonly command: readonly string[];
  /** Complete: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly namespace: string;
  readonly hostname: string;
  readonly uid: number;
  /** An empty folder to build the root in, the pod's /etc files, the user's folder, Node's folder. */
  readonly folders: { readonly mount: string; readonly etc: string; readonly app: string; readonly node: string };
  readonly log: LogFile;
  /** Called with every new process that has a message channel. */
  readonly attach?: ((child: Child) => void) | undefined;
  readonly changed: () => void;
}

/** Long enough to see in the page that something is gone, short enough for a person who waits for it to come back. */
const RESTART_INITIAL_MS = 2000;
const RESTART_MAX_MS = 60_000;
/** A process that ran this long was healthy: its next crash starts from the first delay again. */
const HEALTHY_AFTER_MS = 30_000;

export class Container {
  readonly #options: ContainerOptions;
  readonly #stop = new AbortController();
  readonly #backoff = new Backoff({ initialMs: RESTART_INITIAL_MS, maxMs: RESTART_MAX_MS });
  #child: Child | undefined;
  #restarts = 0;
  #loop: Promise<void> | undefined;

  constructor(options: ContainerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exited === undefined;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** The container's process as the host numbers it. */
  get pid(): number | undefined {
    const outer = this.running ? this.#child?.pid : undefined;
    return outer === undefined ? undefined : onlyChildOf(outer);
  }

  async stop(graceMs: number): Promise<void> {
    this.#stop.abort();
    await this.#child?.stop(graceMs, this.pid);
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { log, changed } = this.#options;
    while (!signal.aborted) {
      const started = performance.now();
      const child = new Child(launchCommand(this.#options), this.#childOptions());
      this.#child = child;
      if (this.#options.attach !== undefined) this.#options.attach(child);
      changed();
      const status = await child.ended;
      log.note(`process ended: ${describeExit(status)}`);
      changed();
      if (signal.aborted) return;
      if (performance.now() - started > HEALTHY_AFTER_MS) this.#backoff.reset();
      await sleep(this.#backoff.next(), signal);
      this.#restarts++;
    }
  }

  #childOptions(): ChildOptions {
    // The launcher's own environment: the container's comes as arguments, so that it cannot reach a process that is still root.
    const env = { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin" };
    return { log: this.#options.log, env, channel: this.#options.attach !== undefined };
  }
}

function launchCommand(options: ContainerOptions): string[] {
  const { folders, uid, hostname, env, command, namespace } = options;
  const channel = options.attach === undefined ? [] : ['NODE_CHANNEL_FD="$NODE_CHANNEL_FD"'];
  const script = LAUNCH_SCRIPT.replace('"$@"', [...channel, '"$@"'].join(" "));
  return [
    "nsenter",
    `--net=${namespacePath(namespace)}`,
    "unshare",
    ...["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private"],
    ...["sh", "-c", script, "sh"],
    ...[folders.mount, folders.etc, folders.app, folders.node, String(uid), hostname],
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ...command,
  ];
}
