import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, until } from "@tulle/lab";
import type { KubeObject } from "@tulle/store";

/** Drives `tulle up` as a person would: by its command line, its output, its directory and signals. */

const CLI = fileURLToPath(new URL("../../apps/cli/src/main.js", import.meta.url));
export const BOOKINFO = fileURLToPath(new URL("../../samples/bookinfo", import.meta.url));
const READY_TEXT = "Ctrl-C ends the mesh";
/** Several starts share two cores with other tests. */
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 30_000;
/**
 * Published ports of tests: below those that the kernel gives to clients (32768 on), and in steps that no two ports of our
 * fixtures differ by, so that test processes that run at the same time never want the same one.
 */
const FIRST_OFFSET = 3000;
const OFFSET_STEP = 7;
const OFFSETS = 2800;
const CLI_TIMEOUT_MS = 30_000;
const STATE_FOLDER = "/var/lib/tulle";
/** Meshes of this process; what they would keep for the next start goes when it ends. */
const names = new Set<string>();
process.on("exit", () => {
  for (const name of names) rmSync(join(STATE_FOLDER, name), { recursive: true, force: true });
});
/** Pods run under user ids from here on. */
const FIRST_POD_UID = 1_900_000_000;

export interface Exit {
  readonly code: number | null;
  readonly output: string;
}

/** Of this test process's meshes, which run one after another. */
export const PORT_OFFSET = FIRST_OFFSET + (process.pid % OFFSETS) * OFFSET_STEP;

/** A mesh name that no other test process has; `letter` tells the meshes of one process apart. */
export function meshName(letter: string): string {
  return `${letter}${process.pid.toString(36)}`;
}

export interface StartOptions {
  readonly name: string;
  /** Default 60. */
  readonly readySeconds?: number;
}

export class LocalMesh implements AsyncDisposable {
  static readonly cli = CLI;
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;
  #output = "";
  #over = false;

  private constructor(directory: string, { name, readySeconds = 60 }: StartOptions) {
    this.name = name;
    names.add(name);
    const options = { name, "port-offset": PORT_OFFSET, "ready-timeout": readySeconds };
    const flags = Object.entries(options).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const args = [CLI, "up", directory, ...flags];
    // A test process that is ended from outside takes its mesh with it, in an orderly way.
    const command = ["--pdeathsig", "TERM", process.execPath, ...args];
    this.#child = spawn("setpriv", command, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    }
    this.#exit = new Promise((resolve) => {
      this.#child.on("close", (code) => {
        this.#over = true;
        resolve(code);
      });
    });
  }

  /** Resolves when the mesh says that it is ready. Throws with its output when it ends before. */
  static async start(directory: string, options: StartOptions): Promise<LocalMesh> {
    const mesh = new LocalMesh(directory, options);
    await until(() => mesh.#over || mesh.#output.includes(READY_TEXT), {
      what: `the mesh to be ready; so far:\n${mesh.#output}`,
      timeoutMs: START_TIMEOUT_MS,
    });
    if (mesh.#over) throw new Error(`the mesh has ended:\n${mesh.#output}`);
    return mesh;
  }

  /** A start that is expected to end by itself. */
  static async fails(directory: string, options: StartOptions): Promise<Exit> {
    const mesh = new LocalMesh(directory, options);
    const code = await mesh.#ended(START_TIMEOUT_MS);
    return { code, output: mesh.#output };
  }

  get output(): string {
    return this.#output;
  }

  /** The process that owns the mesh (the command line is its parent). */
  get ownerPid(): number {
    return JSON.parse(readFileSync(join(this.folder, "owner.json"), "utf8")).pid;
  }

  get folder(): string {
    return `/run/tulle/${this.name}`;
  }

  /** The folder of objects and keys, which outlives the mesh. */
  get state(): string {
    return join(STATE_FOLDER, this.name);
  }

  get bridge(): string {
    return `tulle-${this.name}`;
  }

  url(port: number, path = "/"): string {
    return `http://localhost:${port + PORT_OFFSET}${path}`;
  }

  /** Names of the network namespaces of this mesh. */
  namespaces(): string[] {
    const prefix = `tulle-lab-${this.ownerPid}-`;
    return readdirSync("/run/netns").filter((name) => name.startsWith(prefix));
  }

  /** The namespace of the first pod whose `<namespace>.<name>` begins so. */
  namespaceOf(pod: string): string {
    const found = this.namespaces().find((name) => name.split("-").slice(5).join("-").startsWith(pod));
    if (found === undefined) throw new Error(`no pod ${pod} among ${this.namespaces().join(", ")}`);
    return `/run/netns/${found}`;
  }

  /** The process of a pod; undefined while it has none. */
  async processOf(pod: string): Promise<number | undefined> {
    const name = this.namespaceOf(pod).split("/").at(-1) ?? "";
    const pids = (await run("ip", ["netns", "pids", name])).trim().split("\n").map(Number);
    return pids.find((pid) => uidOf(pid) >= FIRST_POD_UID);
  }

  /** The address of a pod, of one family. */
  async addressOf(pod: string, family: "inet" | "inet6" = "inet"): Promise<string> {
    const json = await run("ip", ["-json", "addr", "show", "dev", "eth0", "scope", "global"], {
      namespace: this.namespaceOf(pod),
    });
    const [link] = JSON.parse(json) as { addr_info: { family: string; local: string }[] }[];
    const found = link?.addr_info.find((address) => address.family === family)?.local;
    if (found === undefined) throw new Error(`${pod} has no ${family} address`);
    return found;
  }

  /** What `tulle ARGS… --local NAME` prints. Rejects when its exit code is not 0. */
  tulle(...args: readonly string[]): Promise<string> {
    return run(process.execPath, ["--no-warnings", CLI, ...args, "--local", this.name], { timeoutMs: CLI_TIMEOUT_MS });
  }

  /** Objects as `tulle get` shows them, of all namespaces. */
  async objects(kind: string): Promise<readonly KubeObject[]> {
    return (JSON.parse(await this.tulle("get", kind, "-A", "-o", "json")) as { items: KubeObject[] }).items;
  }

  /** The process of one of the mesh's own pods; undefined while it has none. */
  async partOf(pod: string): Promise<number | undefined> {
    const found = (await this.objects("pods")).find(({ metadata }) => metadata.name === pod);
    const pid = found?.metadata.annotations?.["tulle.dev/pid"];
    return pid === undefined ? undefined : Number(pid);
  }

  log(file: string): string {
    const path = join(this.folder, "logs", file);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /** As Ctrl-C does; resolves with the exit code when everything is taken down. */
  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<number | null> {
    if (this.#over) return this.#exit;
    this.#child.kill(signal);
    return this.#ended(STOP_TIMEOUT_MS);
  }

  /** Ends the owner without a chance to tidy up. */
  async crash(): Promise<void> {
    process.kill(this.ownerPid, "SIGKILL");
    await this.#ended(STOP_TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) await this.stop();
  }

  /** Resolves with the exit code when somebody else has ended it. */
  ended(): Promise<number | null> {
    return this.#ended(STOP_TIMEOUT_MS);
  }

  async #ended(timeoutMs: number): Promise<number | null> {
    await until(() => this.#over, { what: "the mesh to end", timeoutMs });
    return this.#exit;
  }
}

/** A directory of YAML that a test may change; goes away with the test. */
export class Workspace implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "tulle-local-"));

  constructor() {
    // Pods are nobody's users.
    chmodSync(this.path, 0o755);
  }

  static copyOf(directory: string): Workspace {
    const workspace = new Workspace();
    cpSync(directory, workspace.path, { recursive: true });
    return workspace;
  }

  static of(files: Readonly<Record<string, string>>): Workspace {
    const workspace = new Workspace();
    for (const [name, text] of Object.entries(files)) workspace.write(name, text);
    return workspace;
  }

  read(name: string): string {
    return readFileSync(join(this.path, name), "utf8");
  }

  /** As an editor does that renames over the old file. */
  write(name: string, text: string): void {
    const draft = join(this.path, `.${name}.new`);
    writeFileSync(draft, text);
    renameSync(draft, join(this.path, name));
  }

  remove(name: string): void {
    rmSync(join(this.path, name));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** What a mesh of this name and owner has left on the machine. */
export function traces(name: string, ownerPid: number): string[] {
  const namespaces = readdirSync("/run/netns").filter((one) => one.startsWith(`tulle-lab-${ownerPid}-`));
  const links = readdirSync("/sys/class/net").filter(
    (one) => one === `tulle-${name}` || one.startsWith(`n${name}-`) || one.startsWith(`p${name}-`),
  );
  const folder = existsSync(`/run/tulle/${name}`) ? [`/run/tulle/${name}`] : [];
  return [...namespaces, ...links, ...folder, ...processesOf(`/run/tulle/${name}/`)];
}

/** Processes whose command line or environment names the mesh's folder. */
function processesOf(text: string): string[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((pid) => {
      try {
        return ["cmdline", "environ"].some((file) => readFileSync(`/proc/${pid}/${file}`, "latin1").includes(text));
      } catch {
        // It has ended while we looked.
        return false;
      }
    })
    .map((pid) => `process ${pid}`);
}

function uidOf(pid: number): number {
  try {
    return Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
