import { type ChildProcess, spawn } from "node:child_process";
import { MeshError } from "@tulle/base";
import { inNamespace } from "./command.ts";
import { decodePacket, type Packet } from "./packet.ts";
import { PcapReader } from "./pcap.ts";
import { until } from "./until.ts";

/** More than any test looks at; a capture that sees more is not filtered as it should be. */
const MAX_PACKETS = 200_000;
/**
 * Bytes of a packet. Looked for are ports, flags and short words at its beginning; without it each would take 64 KiB of the
 * kernel's buffer, however small it is.
 */
const SNAPSHOT = "4096";
/** In KiB: room for 16,000 such packets, so that none is dropped while a test's process stands still. */
const KERNEL_BUFFER = "65536";

/** Packets of one device, recorded by tcpdump and decoded as they come. */
export class Capture implements AsyncDisposable {
  /** TCP and UDP packets so far, in order. */
  readonly packets: Packet[] = [];
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  #errors = "";
  #failure: Error | undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    const reader = new PcapReader();
    child.stdout?.on("data", (piece: Buffer) => this.#take(reader, piece));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errors += text;
    });
    child.on("error", (error) => {
      this.#failure = error;
    });
    this.#closed = new Promise((resolve) => child.on("close", () => resolve()));
  }

  /** Resolves when tcpdump listens. Throws MeshError with tcpdump's complaint. */
  static async start(namespacePath: string, device: string, filter: string): Promise<Capture> {
    // The kernel hands every packet over at once (immediate mode), and -U writes each at once.
    const options = ["-i", device, "-n", "-U", "--immediate-mode", "-s", SNAPSHOT, "-B", KERNEL_BUFFER, "-w", "-"];
    const tcpdump = ["--pdeathsig", "KILL", "--", "tcpdump", ...options, ...(filter === "" ? [] : [filter])];
    const [file = "", ...args] = inNamespace(namespacePath, "setpriv", tcpdump);
    const capture = new Capture(spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] }));
    await until(() => capture.#errors.includes("listening on") || capture.#ended, { what: "tcpdump to listen" });
    if (capture.#ended) {
      throw new MeshError(`tcpdump: ${capture.#failure?.message ?? capture.#errors.trim()}`, {
        code: "COMMAND_FAILED",
        side: "internal",
      });
    }
    return capture;
  }

  /** Waits until a packet matches and returns it. */
  packet(matches: (packet: Packet) => boolean, what = "a packet"): Promise<Packet> {
    return until(() => this.packets.find(matches), { what });
  }

  /** Ends the recording. Throws when the kernel or the reader had to drop packets: the record has a hole then. */
  async stop(): Promise<readonly Packet[]> {
    if (!this.#ended) this.#child.kill("SIGINT");
    await this.#closed;
    if (this.#failure !== undefined) throw this.#failure;
    const dropped = /(\d+) packets dropped by kernel/.exec(this.#errors)?.[1] ?? "0";
    if (dropped !== "0") throw new Error(`the capture is incomplete: the kernel dropped ${dropped} packets`);
    return this.packets;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.#child.kill("SIGKILL");
    await this.#closed;
  }

  get #ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#failure !== undefined;
  }

  #take(reader: PcapReader, piece: Buffer): void {
    try {
      for (const frame of reader.push(piece)) {
        const packet = decodePacket(frame);
        if (packet !== undefined) this.packets.push(packet);
      }
      if (this.packets.length > MAX_PACKETS)
        throw new RangeError(`more than ${MAX_PACKETS} packets: narrow the filter`);
    } catch (error) {
      this.#failure = error as Error;
      this.#child.kill("SIGKILL");
    }
  }
}
