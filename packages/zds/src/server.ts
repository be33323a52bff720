import { type Log, MeshError } from "@tulle/base";
import {
  type Descriptor,
  DescriptorWatch,
  duplicateNumber,
  type NetNamespace,
  SeqpacketListener,
  type SeqpacketSocket,
} from "@tulle/linux";
import { PacketSocket } from "./packet-socket.ts";
import { decodeAck, encodeRequest, isHello, type PodInfo, type ZdsAck, type ZdsRequest } from "./protocol.ts";

/** A pod as the agent knows it. The namespace stays the agent's; undefined: it cannot be opened any more. */
export interface AgentPod {
  readonly uid: string;
  readonly info: PodInfo;
  readonly namespace: NetNamespace | undefined;
}

export interface ZdsServerOptions {
  readonly path: string;
  readonly log: Log;
  /** Every enrolled pod, asked for whenever a proxy connects. */
  readonly snapshot: () => readonly AgentPod[];
  /** How many proxies have taken their snapshot, whenever that changes. */
  readonly onConnected?: (connected: number) => void;
}

/** A proxy that connects must say hello within this time, and answer each message within the same (spec: l4-ztunnel §7.3). */
const HELLO_TIMEOUT_MS = 5000;
const ACK_TIMEOUT_MS = 5000;
/** Proxies at a time: the old and the new one of an upgrade, and some that are about to be noticed as dead. */
const MAX_PROXIES = 16;

/** The node agent's end: announces the node's pods to every proxy that connects, and each change to those that are there. */
export class ZdsServer {
  readonly #options: ZdsServerOptions;
  readonly #listener: SeqpacketListener;
  readonly #watch: DescriptorWatch;
  /** In the order of connecting; those before their snapshot's end are not ready. */
  readonly #proxies: ProxyConnection[] = [];

  /** Listens at once. Throws SystemError. */
  constructor(options: ZdsServerOptions) {
    this.#options = options;
    this.#listener = SeqpacketListener.listen(options.path);
    this.#watch = new DescriptorWatch(this.#listener.descriptor, () => this.#acceptAll());
  }

  /** Proxies that have taken their snapshot. */
  get connected(): number {
    return this.#proxies.filter(({ ready }) => ready).length;
  }

  /** Tells the newest proxy of a pod. Rejects when there is none (NO_PROXY), it does not answer, or it refuses. */
  async add(pod: AgentPod): Promise<void> {
    const proxy = this.#proxies.findLast(({ ready }) => ready);
    if (proxy === undefined) {
      throw new MeshError("no ztunnel is connected to this node's agent: wait for it to start, or look at its log", {
        code: "NO_PROXY",
        side: "internal",
      });
    }
    await proxy.announce(pod);
  }

  /** Tells every proxy that a pod is gone; resolves when all have answered (or are gone themselves). */
  async del(uid: string): Promise<void> {
    await Promise.allSettled(
      this.#proxies.filter(({ ready }) => ready).map((proxy) => proxy.ask({ kind: "del", uid })),
    );
  }

  close(): void {
    this.#watch.close();
    this.#listener.close();
    for (const proxy of [...this.#proxies]) proxy.close();
  }

  #acceptAll(): void {
    for (;;) {
      const socket = this.#listener.accept();
      if (typeof socket === "number") return;
      if (this.#proxies.length >= MAX_PROXIES) socket.close();
      else void this.#serve(socket);
    }
  }

  async #serve(socket: SeqpacketSocket): Promise<void> {
    const { log, snapshot } = this.#options;
    const proxy = new ProxyConnection(socket);
    this.#proxies.push(proxy);
    try {
      await proxy.hello();
      for (const pod of snapshot()) {
        // One pod that cannot be served must not keep the others from being served.
        await proxy.announce(pod).catch((error: unknown) => {
          log.warn("ztunnel refused a pod of the snapshot", { uid: pod.uid, error: String(error) });
        });
      }
      await proxy.ask({ kind: "snapshot-sent" });
      proxy.ready = true;
      log.info("ztunnel is connected", { proxies: this.connected });
      this.#changed();
      await proxy.ended;
    } catch (error) {
      log.warn("connection to ztunnel failed", { error: String(error) });
    } finally {
      proxy.close();
      this.#proxies.splice(this.#proxies.indexOf(proxy), 1);
      this.#changed();
    }
  }

  #changed(): void {
    this.#options.onConnected?.(this.connected);
  }
}

interface Waiter {
  resolve(bytes: Uint8Array): void;
  reject(error: Error): void;
}

/** One proxy: at most one question at a time, each with its answer. */
class ProxyConnection {
  ready = false;
  readonly ended: Promise<void>;
  readonly #socket: PacketSocket;
  readonly #over = Promise.withResolvers<void>();
  #waiter: Waiter | undefined;
  #early: Uint8Array | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(socket: SeqpacketSocket) {
    this.ended = this.#over.promise;
    this.#socket = new PacketSocket(socket, {
      onPacket: (bytes, descriptors) => {
        for (const descriptor of descriptors) descriptor.close();
        this.#onPacket(bytes);
      },
      onTruncated: () => this.#fail("ztunnel sent a packet that is too long"),
      onEnd: (error) => this.#fail(error ?? "ztunnel closed the connection"),
    });
  }

  async hello(): Promise<void> {
    const bytes = await this.#answer(HELLO_TIMEOUT_MS);
    if (!isHello(bytes)) throw new Error("the first message is not a hello of version 1");
  }

  async announce(pod: AgentPod): Promise<void> {
    const { uid, info, namespace } = pod;
    if (namespace === undefined) return this.ask({ kind: "keep", uid });
    using handle = duplicateNumber(namespace.descriptor, "netns to ztunnel");
    await this.ask({ kind: "add", uid, info }, handle);
  }

  /** Rejects with the proxy's reason, or when there is no answer in time; the connection is kept then. */
  ask(request: ZdsRequest, descriptor?: Descriptor): Promise<void> {
    const mine = this.#turn.then(async () => {
      const failed = this.#socket.send(encodeRequest(request), descriptor === undefined ? [] : [descriptor]);
      if (failed !== undefined) throw new Error(failed);
      const ack: ZdsAck | undefined = decodeAck(await this.#answer(ACK_TIMEOUT_MS));
      if (ack === undefined) throw new Error("ztunnel answered with an unknown message");
      if (ack.error !== undefined) throw new Error(ack.error);
    });
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  close(): void {
    this.#socket.close();
    this.#fail("closed");
  }

  async #answer(timeoutMs: number): Promise<Uint8Array> {
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined) return early;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Uint8Array>((resolve, reject) => {
        this.#waiter = { resolve, reject };
        timer = setTimeout(() => reject(new Error(`ztunnel has not answered within ${timeoutMs / 1000} s`)), timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#waiter = undefined;
    }
  }

  #onPacket(bytes: Uint8Array): void {
    if (this.#waiter !== undefined) this.#waiter.resolve(bytes);
    // The hello may be there before anybody asks for it; nothing else comes unasked.
    else if (!this.ready && this.#early === undefined) this.#early = bytes;
    else this.#fail("ztunnel sent a message that nobody asked for");
  }

  #fail(reason: string): void {
    this.#waiter?.reject(new Error(reason));
    this.#over.resolve();
    this.#socket.close();
  }
}
