import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { CommandError, type CommandOptions, run, until } from "@tulle/lab";

/** Which of the cluster's namespaces a command enters; all by default. */
export interface Place {
  /** A node's name; default: where the control plane runs. */
  readonly node?: string;
  /** False: the caller's network, with the cluster's processes and files. */
  readonly network?: boolean;
}

/** PID 1 in the cluster's process namespace: its end is the end of everything in it. */
const INIT = join(import.meta.dirname, "..", "node", "cluster-init");
/** Field 22 of /proc/PID/stat, counted behind the name's parenthesis (proc_pid_stat(5)). */
const START_TIME_AFTER_NAME = 22 - 3;
/** Two clock ticks would do; a busy machine gets more. */
const END_LIMIT_MS = 20_000;

/**
 * The namespaces of one cluster: network, mounts, processes, host name. They live as long as their first process, whose
 * number is in the cluster's folder, so that any process can enter them by the folder alone.
 */
export class ClusterSpace {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes the namespaces, with nothing but a loopback device and an empty /run. Owned, they end with this process. */
  async create({ owned }: { readonly owned: boolean }): Promise<void> {
    const log = openSync(join(this.folder, "log", "init.log"), "a", 0o600);
    try {
      const namespaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--propagation", "private"];
      const child = spawn("unshare", [...namespaces, INIT, this.folder, owned ? "owned" : "free"], {
        stdio: [owned ? "pipe" : "ignore", log, log],
        detached: true,
      });
      // Never written to: it only has to stay open for as long as this process lives.
      child.stdin?.on("error", () => {});
      if (child.stdin instanceof Socket) child.stdin.unref();
      let failure: Error | undefined;
      child.on("error", (error) => {
        failure = error;
      });
      child.unref();
      await until(() => this.alive || failure !== undefined || child.exitCode !== null, { what: "the cluster's init" });
      if (!this.alive) {
        const said = failure?.message ?? readFileSync(join(this.folder, "log", "init.log"), "utf8").trim();
        throw new Error(`the cluster's namespaces could not be made (this needs root): ${said}`);
      }
    } finally {
      closeSync(log);
    }
  }

  /** Whether its first process runs: that very process, not another with its number. */
  get alive(): boolean {
    const recorded = this.#recorded();
    return recorded !== undefined && startTime(recorded.pid) === recorded.start;
  }

  /** Ends every process in it, at once. What the kernel holds for them (mounts, links) goes with them. Idempotent. */
  async destroy(): Promise<void> {
    const recorded = this.#recorded();
    if (recorded === undefined || !this.alive) return;
    process.kill(recorded.pid, "SIGKILL");
    await until(() => startTime(recorded.pid) !== recorded.start, {
      what: "the cluster's processes to end",
      timeoutMs: END_LIMIT_MS,
    });
  }

  /** As the caller sees it. Throws when the cluster does not run. */
  get initPid(): number {
    const recorded = this.#recorded();
    if (recorded === undefined || !this.alive)
      throw new Error(`no cluster runs in ${this.folder}: start it with \`npm run cluster -- up\``);
    return recorded.pid;
  }

  /** A path in the cluster's mount namespace, for a caller outside. */
  path(inside: string): string {
    return `/proc/${this.initPid}/root${inside}`;
  }

  /** Of a node (`n1`) or, without a name, of the control plane: for nsenter, tcpdump and the helpers of @tulle/lab. */
  networkPath(node?: string): string {
    return node === undefined ? `/proc/${this.initPid}/ns/net` : this.path(`/run/netns/${node}`);
  }

  /** The words of a command that runs in there. */
  enter(words: readonly string[], place: Place = {}): string[] {
    const network = place.network === false ? [] : ["--net"];
    const outer = ["nsenter", `--target=${this.initPid}`, "--mount", "--uts", "--pid", ...network, "--"];
    if (place.node === undefined) return [...outer, ...words];
    return [
      ...outer,
      "nsenter",
      `--target=${this.daemonPid(place.node)}`,
      "--mount",
      "--uts",
      "--pid",
      "--net",
      "--",
      ...words,
    ];
  }

  /** Runs a command in there; returns its standard output, throws CommandError. */
  run(words: readonly string[], options: Omit<CommandOptions, "namespace"> = {}, place: Place = {}): Promise<string> {
    const [program = "", ...args] = this.enter(words, place);
    return run(program, args, { ...options, environment: { ...this.environment, ...options.environment } });
  }

  /** For commands in there: the cluster's programs and its API server. */
  get environment(): Readonly<Record<string, string>> {
    return {
      PATH: `${join(this.folder, "bin")}:${process.env.PATH ?? ""}`,
      KUBECONFIG: join(this.folder, "pki", "admin.conf"),
    };
  }

  /** Starts a process in there that outlives the caller, with its own log and a file of its number. */
  async start(name: string, words: readonly string[], place: Place = {}): Promise<void> {
    const log = openSync(join(this.folder, "log", `${name}.log`), "a", 0o600);
    const record = ["bash", "-c", 'echo $$ >"$1.new" && mv "$1.new" "$1"; shift; exec "$@"', name, this.#pidFile(name)];
    const [program = "", ...args] = this.enter(["setsid", "--fork", ...record, ...words], place);
    // The number of an earlier one would be taken for this one's.
    rmSync(this.#pidFile(name), { force: true });
    try {
      await new Promise<void>((resolve, reject) => {
        const child = spawn(program, args, {
          stdio: ["ignore", log, log],
          env: { ...process.env, ...this.environment },
        });
        child.on("error", reject);
        child.on("close", (code) =>
          code === 0
            ? resolve()
            : reject(
                new CommandError(words.join(" "), `exit code ${code}`, { stdout: "", stderr: "" }, code ?? undefined),
              ),
        );
      });
    } finally {
      closeSync(log);
    }
    await until(() => existsSync(this.#pidFile(name)), { what: `${name} to start`, intervalMs: 2 });
  }

  /** Whether the process that `start` made runs. */
  running(name: string): boolean {
    try {
      return startTime(this.daemonPid(name), this.path("/proc")) !== undefined;
    } catch {
      // Never started, or the cluster is gone.
      return false;
    }
  }

  /** Ends a process that `start` made, and waits for its end. Idempotent. */
  async stop(name: string, signal: "TERM" | "KILL" = "KILL"): Promise<void> {
    if (!this.running(name)) return;
    await this.run(["kill", `-${signal}`, String(this.daemonPid(name))]);
    await until(() => !this.running(name), { what: `${name} to end`, timeoutMs: END_LIMIT_MS });
  }

  /** The number that the process has inside. Throws ENOENT before it has told. */
  daemonPid(name: string): number {
    return Number(readFileSync(this.#pidFile(name), "utf8"));
  }

  #pidFile(name: string): string {
    return join(this.folder, "pids", name);
  }

  #recorded(): { readonly pid: number; readonly start: string } | undefined {
    try {
      const [pid = "", start = ""] = readFileSync(this.#pidFile("init"), "utf8").trim().split(" ");
      return { pid: Number(pid), start };
    } catch {
      // Not there yet, or no longer.
      return undefined;
    }
  }
}

/** In clock ticks since boot; undefined when there is no such process, or only its exit code is left. */
export function startTime(pid: number, proc = "/proc"): string | undefined {
  try {
    const stat = readFileSync(`${proc}/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[START_TIME_AFTER_NAME];
  } catch {
    return undefined;
  }
}
