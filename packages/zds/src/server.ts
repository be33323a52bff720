import { chmodSync } from "node:fs";
import { type Log, MeshError, messageOf } from "@tulle/base";
import {
  type Descriptor,
  DescriptorWatch,
  duplicateNumber,
  type NetNamespace,
  type PeerCredentials,
  peerCredentials,
  SeqpacketListener,
  type SeqpacketSocket,
} from "@tulle/linux";
import { PacketSocket } from "./packet-socket.ts";
import { decodeAck, encodeRequest, isHello, MAX_PACKET, type PodInfo, type ZdsRequest } from "./protocol.ts";

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
  /** Why a process that connects is none of our proxies; undefined: it is one. Default: everybody who can connect. */
  readonly admit?: (peer: PeerCredentials) => Promise<string | undefined>;
  /** What a proxy that connects has said to each pod of its snapshot; undefined: it serves the pod. */
  readonly onAnnounced?: (uid: string, refusal: string | undefined) => void;
  /** From connecting to hello. Default 5 s. */
  readonly helloTimeoutMs?: number;
  /** For the answer to each message. Default 5 s. */
  readonly ackTimeoutMs?: number;
}

/** A proxy that connects must say hello within this time, and answer each message within the same (spec: l4-ztunnel §7.3). */
const HELLO_TIMEOUT_MS = 5000;
const ACK_TIMEOUT_MS = 5000;
/** Whoever has waited so long for the answers to others is told that the proxy is too slow; nothing is sent then. */
const TURN_TIMEOUT_MS = 15_000;
/** Messages that wait for their turn: ten times the pods of a node. */
const MAX_WAITING = 2500;
/** Proxies at a time: the old and the new one of an upgrade, and some that are about to be noticed as dead. */
const MAX_PROXIES = 16;
/** Answers that are due, one after the other not in time: then the proxy is taken for dead, and an older one counts again. */
const MAX_UNANSWERED = 3;
/** Whoever connects is handed the namespaces of pods. */
const SOCKET_MODE = 0o600;

/** The node agent's end: announces the node's pods to every proxy that connects, and each change to those that are there. */
export class ZdsServer {
  readonly #options: ZdsServerOptions;
  readonly #listener: SeqpacketListener;
  readonly #watch: DescriptorWatch;
  /** In the order of connecting. */
  readonly #proxies: ProxyConnection[] = [];

  /** Listens at once. Throws SystemError. */
  constructor(options: ZdsServerOptions) {
    this.#options = options;
    this.#listener = SeqpacketListener.listen(options.path);
    chmodSync(options.path, SOCKET_MODE);
    this.#watch = new DescriptorWatch(this.#listener.descriptor, () => this.#acceptAll());
  }

  /** Proxies that have taken their snapshot. */
  get connected(): number {
    return this.#proxies.filter(({ ready }) => ready).length;
  }

  /**
   * Tells the newest proxy of a pod, after its snapshot; one that owes answers only if there is no other. Rejects when there
   * is none (NO_PROXY), it does not answer, or it refuses.
   */
  async add(pod: AgentPod): Promise<void> {
    const greeted = this.#proxies.filter((one) => one.greeted);
    const proxy = greeted.findLast((one) => !one.owes) ?? greeted.at(-1);
    if (proxy === undefined) {
      throw new MeshError("no ztunnel is connected to this node's agent: wait for it to start, or look at its log", {
        code: "NO_PROXY",
        side: "internal",
      });
    }
    await proxy.synced;
    await proxy.announce(pod);
  }

  /** Tells every proxy that a pod is gone; resolves when all have answered (or are gone themselves). */
  async del(uid: string): Promise<void> {
    const greeted = this.#proxies.filter((proxy) => proxy.greeted);
    // One whose snapshot is under way may still announce the pod: it is told afterwards.
    const told = greeted.map((proxy) => proxy.synced.then(() => proxy.ask({ kind: "del", uid })));
    for (const result of await Promise.allSettled(told)) {
      if (result.status === "fulfilled") continue;
      this.#options.log.warn("ztunnel was not told that a pod is gone", { uid, error: messageOf(result.reason) });
    }
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
      if (this.#proxies.length < MAX_PROXIES) void this.#serve(socket);
      else {
        this.#options.log.warn("too many ztunnels are connected", { limit: MAX_PROXIES });
        socket.close();
      }
    }
  }

  async #serve(socket: SeqpacketSocket): Promise<void> {
    const { log, snapshot, onAnnounced } = this.#options;
    const { helloTimeoutMs = HELLO_TIMEOUT_MS, ackTimeoutMs = ACK_TIMEOUT_MS } = this.#options;
    const proxy = new ProxyConnection(socket, ackTimeoutMs);
    this.#proxies.push(proxy);
    try {
      await this.#admit(socket, helloTimeoutMs);
      await proxy.hello(helloTimeoutMs);
      for (const pod of snapshot()) {
        // One pod that cannot be served must not keep the others from being served.
        const refusal = await proxy.announce(pod).then(() => undefined, messageOf);
        if (refusal !== undefined) {
          log.warn("ztunnel refused a pod of the snapshot", { uid: pod.uid, error: refusal });
          if (proxy.closed) throw new Error(refusal);
        }
        onAnnounced?.(pod.uid, refusal);
      }
      await proxy.ask({ kind: "snapshot-sent" });
      proxy.setReady();
      log.info("ztunnel is connected", { proxies: this.connected });
      this.#changed();
      await proxy.ended;
    } catch (error) {
      log.warn("connection to ztunnel failed", { error: messageOf(error) });
    } finally {
      proxy.close();
      this.#proxies.splice(this.#proxies.indexOf(proxy), 1);
      this.#changed();
    }
  }

  /** Rejects unless the peer is one of our proxies. */
  async #admit(socket: SeqpacketSocket, timeoutMs: number): Promise<void> {
    const { admit } = this.#options;
    if (admit === undefined) return;
    const peer = peerCredentials(socket.descriptor.fd);
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error("it could not be found out in time who connected")), timeoutMs);
    try {
      const refusal = await Promise.race([admit(peer), late]);
      if (refusal !== undefined) throw new Error(`process ${peer.pid} (uid ${peer.uid}) is refused: ${refusal}`);
    } finally {
      clearTimeout(timer);
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
  /** Resolves when the snapshot is complete; rejects when the connection ends before that. */
  readonly synced: Promise<void>;
  readonly ended: Promise<void>;
  readonly #socket: PacketSocket;
  readonly #ackTimeoutMs: number;
  readonly #sync = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  #waiter: Waiter | undefined;
  /** A hello that was there before anybody waited for it. */
  #early: Uint8Array | undefined;
  #greeted = false;
  #ready = false;
  /** Answers that did not come in time and may come yet: they belong to no later question. */
  #late = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  constructor(socket: SeqpacketSocket, ackTimeoutMs: number) {
    this.#ackTimeoutMs = ackTimeoutMs;
    this.ended = this.#over.promise;
    this.synced = this.#sync.promise;
    // Whether anybody waits for it is not known.
    this.synced.catch(() => undefined);
    this.#socket = new PacketSocket(socket, {
      onPacket: (bytes, descriptors) => {
        for (const descriptor of descriptors) descriptor.close();
        if (descriptors.length > 0) this.#fail("ztunnel sent descriptors");
        else this.#onPacket(bytes);
      },
      onTruncated: () => this.#fail("ztunnel sent a packet that is too long"),
      onEnd: (error) => this.#fail(error ?? "ztunnel closed the connection"),
    });
  }

  /** Whether it has said hello: from then on it is told of changes. */
  get greeted(): boolean {
    return this.#greeted;
  }

  /** Whether it has taken its snapshot. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Whether the time for an answer is over, and it has not come since. */
  get owes(): boolean {
    return this.#late > 0;
  }

  get closed(): boolean {
    return this.#closed;
  }

  async hello(timeoutMs: number): Promise<void> {
    const bytes = this.#early ?? (await this.#answer(timeoutMs, "said hello"));
    if (!isHello(bytes)) throw new Error("the first message is not a hello of version 1");
    this.#greeted = true;
  }

  setReady(): void {
    this.#ready = true;
    this.#sync.resolve();
  }

  async announce(pod: AgentPod): Promise<void> {
    const { uid, info, namespace } = pod;
    if (namespace === undefined) return this.ask({ kind: "keep", uid });
    using handle = duplicateNumber(namespace.descriptor, "netns to ztunnel");
    await this.ask({ kind: "add", uid, info }, handle);
  }

  /** Rejects with the proxy's reason, or when there is no answer in time; the connection is kept then. */
  ask(request: ZdsRequest, descriptor?: Descriptor): Promise<void> {
    if (this.#waiting >= MAX_WAITING) return Promise.reject(new Error("too many messages wait for ztunnel"));
    this.#waiting++;
    const deadline = performance.now() + TURN_TIMEOUT_MS;
    const mine = this.#turn.then(() => {
      this.#waiting--;
      if (performance.now() > deadline)
        throw new Error("ztunnel answers too slowly: others still wait before this one");
      return this.#askNow(request, descriptor);
    });
    this.#turn = mine.catch(() => undefined);
    return mine;
  }

  close(): void {
    this.#fail("the connection to ztunnel was closed");
  }

  async #askNow(request: ZdsRequest, descriptor: Descriptor | undefined): Promise<void> {
    if (this.#closed) throw new Error("the connection to ztunnel was closed");
    const bytes = encodeRequest(request);
    if (bytes.length > MAX_PACKET) throw new Error(`a pod's names do not fit into ${MAX_PACKET} bytes`);
    const failed = this.#socket.send(bytes, descriptor === undefined ? [] : [descriptor]);
    if (failed !== undefined) throw new Error(failed);
    const ack = decodeAck(await this.#answer(this.#ackTimeoutMs, "answered"));
    if (ack === undefined) throw new Error("ztunnel answered with an unknown message");
    if (ack.error !== undefined) throw new Error(ack.error);
  }

  async #answer(timeoutMs: number, what: string): Promise<Uint8Array> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Uint8Array>((resolve, reject) => {
        this.#waiter = { resolve, reject };
        timer = setTimeout(() => {
          reject(new Error(`ztunnel has not ${what} within ${timeoutMs / 1000} s`));
          if (++this.#late >= MAX_UNANSWERED) this.#fail(`ztunnel owes ${this.#late} answers`);
        }, timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#waiter = undefined;
    }
  }

  #onPacket(bytes: Uint8Array): void {
    if (this.#late > 0) {
      this.#late--;
      return;
    }
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter !== undefined) waiter.resolve(bytes);
    else if (!this.#greeted && this.#early === undefined) this.#early = bytes;
    else this.#fail("ztunnel sent a message that nobody asked for");
  }

  #fail(reason: string): void {
    this.#closed = true;
    const error = new Error(reason);
    this.#waiter?.reject(error);
    this.#sync.reject(error);
    this.#over.resolve();
    this.#socket.close();
  }
}
