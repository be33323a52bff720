import { Capture } from "./capture.ts";
import { type CommandOptions, run } from "./command.ts";
import { LabProcess, type SpawnOptions } from "./lab-process.ts";
import { killProcesses, namespaceName, namespacePath } from "./owner.ts";

/** A network namespace that the lab made: a "node" or a "pod". */
export class LabNamespace implements AsyncDisposable {
  /** As `ip netns` shows it. */
  readonly name: string;
  /** What the test calls it. */
  readonly label: string;
  /** `/run/netns/…`, for NetNamespace.open, nsenter and the other helpers of this package. */
  readonly path: string;
  #deleted = false;

  private constructor(name: string, label: string) {
    this.name = name;
    this.label = label;
    this.path = namespacePath(name);
  }

  /** A namespace with nothing but a loopback device that is up. */
  static async create(label: string): Promise<LabNamespace> {
    const namespace = new LabNamespace(namespaceName(label), label);
    await addNamespace(namespace.name);
    await namespace.ip(["link set lo up"]);
    return namespace;
  }

  /** Commands of `ip -batch`, all in one process: `addr add 10.0.0.1/24 dev eth0`. Throws CommandError at the first that fails. */
  async ip(commands: readonly string[]): Promise<void> {
    if (commands.length > 0) await run("ip", ["-n", this.name, "-batch", "-"], { input: `${commands.join("\n")}\n` });
  }

  /** Runs a command in here; returns its standard output, throws CommandError. */
  run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run(program, args, { ...options, namespace: this.path });
  }

  /** Starts a process in here that runs until it is stopped. */
  start(program: string, args: readonly string[], options: SpawnOptions = {}): Promise<LabProcess> {
    return LabProcess.start(program, args, { ...options, namespace: this.path });
  }

  /** Reads a sysctl, `net.ipv4.ip_forward`; writes it when a value is given. Returns what it is. */
  async sysctl(name: string, value?: string | number): Promise<string> {
    const path = `/proc/sys/${name.replaceAll(".", "/")}`;
    if (value !== undefined) await this.run("tee", [path], { input: String(value) });
    return (await this.run("cat", [path])).trim();
  }

  /** Records the packets of a device from now on. `filter` is tcpdump's (pcap-filter(7)). */
  capture(device: string, filter = ""): Promise<Capture> {
    return Capture.start(this.path, device, filter);
  }

  /** Ends what runs in it and deletes it, its devices too. Idempotent. */
  async delete(): Promise<void> {
    if (this.#deleted) return;
    this.#deleted = true;
    await killProcesses(this.name);
    await run("ip", ["netns", "delete", this.name]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.delete();
  }
}

/** The first `ip netns add` after boot mounts /run/netns; a second one at that moment finds it half done, and fails. */
async function addNamespace(name: string): Promise<void> {
  try {
    await run("ip", ["netns", "add", name]);
  } catch {
    await run("ip", ["netns", "add", name]);
  }
}
