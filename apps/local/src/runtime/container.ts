import { Child, onlyChildOf } from "./child-process.ts";
import { LAUNCH_SCRIPT } from "./container-root.ts";
import type { LogFile } from "./log-file.ts";
import { Restarting } from "./restarting.ts";

/** One container of a pod: a process in the pod's network namespace, with nothing of the host's but its libraries. */

export interface ContainerOptions {
  readonly command: readonly string[];
  /** Complete: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Path of the pod's network namespace. */
  readonly namespace: string;
  readonly hostname: string;
  readonly uid: number;
  /** An empty folder to build the root in, the pod's /etc files, the user's folder, Node's binary. */
  readonly folders: { readonly mount: string; readonly etc: string; readonly app: string; readonly node: string };
  readonly log: LogFile;
  /** Called with every new process that has a message channel. */
  readonly attach?: ((child: Child) => void) | undefined;
  readonly changed: () => void;
}

/** Long enough to see in the page that something is gone, short enough for a person who waits for it to come back. */
const RESTART_MS = 2000;

export class Container {
  readonly #process: Restarting;
  #pid: { readonly outer: number; readonly inner: number } | undefined;

  constructor(options: ContainerOptions) {
    const { log, changed, attach } = options;
    // The launcher's own environment: the container's comes as arguments, so that it cannot reach a process that is still root.
    const env = { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin" };
    const start = () => {
      const child = new Child(launchCommand(options), { log, env, channel: attach !== undefined });
      attach?.(child);
      return child;
    };
    this.#process = new Restarting({ start, log, changed, restartMs: RESTART_MS });
  }

  get running(): boolean {
    return this.#process.child !== undefined;
  }

  get restarts(): number {
    return this.#process.restarts;
  }

  /** The container's process as the host numbers it; undefined in the first milliseconds, too. */
  get pid(): number | undefined {
    const outer = this.#process.child?.pid;
    if (outer === undefined) return undefined;
    if (this.#pid?.outer !== outer) {
      const inner = onlyChildOf(outer);
      this.#pid = inner === undefined ? undefined : { outer, inner };
    }
    return this.#pid?.inner;
  }

  stop(graceMs: number): Promise<void> {
    return this.#process.stop(graceMs, this.pid);
  }
}

function launchCommand(options: ContainerOptions): string[] {
  const { folders, uid, hostname, env, command, namespace } = options;
  const channel = options.attach === undefined ? [] : ['NODE_CHANNEL_FD="$NODE_CHANNEL_FD"'];
  const script = LAUNCH_SCRIPT.replace('"$@"', [...channel, '"$@"'].join(" "));
  return [
    "nsenter",
    `--net=${namespace}`,
    "unshare",
    ...["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private"],
    ...["sh", "-c", script, "sh"],
    ...[folders.mount, folders.etc, folders.app, folders.node, String(uid), hostname],
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ...command,
  ];
}
