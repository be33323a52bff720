import { Capture, type Packet } from "@tulle/lab";
import type { Cluster } from "./cluster.ts";
import { nodeName, PLAN } from "./settings.ts";

/** What goes over every bridge of a cluster: between nodes, and between the pods of each node. */
export class BridgeCapture implements AsyncDisposable {
  /** By bridge: `nodes` is the one between nodes, `n1` the one of that node's pods. */
  readonly captures: ReadonlyMap<string, Capture>;

  private constructor(captures: ReadonlyMap<string, Capture>) {
    this.captures = captures;
  }

  /** Resolves when all are recording. `filter` is tcpdump's (pcap-filter(7)): a capture holds 200,000 packets. */
  static async start(cluster: Cluster, filter = ""): Promise<BridgeCapture> {
    const devices = [
      { name: "nodes", path: cluster.space.networkPath(), device: PLAN.bridge },
      ...cluster.nodeNumbers
        .map(nodeName)
        .filter((name) => cluster.space.running(name))
        .map((name) => ({ name, path: cluster.space.networkPath(name), device: PLAN.podBridge })),
    ];
    const started = await Promise.allSettled(devices.map(({ path, device }) => Capture.start(path, device, filter)));
    const captures = new Map<string, Capture>();
    for (const [index, result] of started.entries()) {
      if (result.status === "fulfilled") captures.set(devices[index]?.name ?? "", result.value);
    }
    const capture = new BridgeCapture(captures);
    const failed = started.find((result) => result.status === "rejected");
    if (failed !== undefined) {
      await capture[Symbol.asyncDispose]();
      throw failed.reason;
    }
    return capture;
  }

  /** The bridges on which these bytes went by in the clear so far, also cut over several packets of one flow. */
  seenOn(marker: string | Uint8Array): string[] {
    return [...this.captures]
      .filter(([, capture]) => contains(capture.packets, Buffer.from(marker)))
      .map(([name]) => name);
  }

  /** How many packets with a payload each bridge has seen: a capture that saw none proves nothing. */
  payloads(): Readonly<Record<string, number>> {
    const counts = [...this.captures].map(
      ([name, { packets }]) => [name, packets.filter(({ payload }) => payload.length > 0).length] as const,
    );
    return Object.fromEntries(counts);
  }

  /** Ends the recording; what was recorded stays. Throws when one has a hole. */
  async stop(): Promise<void> {
    const results = await Promise.allSettled([...this.captures.values()].map((capture) => capture.stop()));
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.captures.values()].map((capture) => capture[Symbol.asyncDispose]()));
  }
}

function contains(packets: readonly Packet[], marker: Buffer): boolean {
  const flows = new Map<string, Uint8Array[]>();
  for (const { protocol, source, destination, payload } of packets) {
    if (payload.length === 0) continue;
    const key = `${protocol} ${source.ip} ${source.port} ${destination.ip} ${destination.port}`;
    const flow = flows.get(key);
    if (flow === undefined) flows.set(key, [payload]);
    else flow.push(payload);
  }
  return [...flows.values()].some((flow) => Buffer.concat(flow).includes(marker));
}
