import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@tulle/base";
import { NetNamespace } from "@tulle/linux";
import { type AgentPod, type PodInfo, ZdsServer } from "@tulle/zds";

/** With the proxy: the product's 5 s are few on a machine that runs many things at once. */
const PATIENCE_MS = 30_000;

/** A node agent without rules: the real server, a socket of its own, and a table of pods that a test changes. */
export class TestZdsAgent implements Disposable {
  /** For INPOD_UDS. */
  readonly path: string;
  readonly #folder: string;
  readonly #pods = new Map<string, AgentPod>();
  #server: ZdsServer;

  constructor() {
    this.#folder = mkdtempSync(join(tmpdir(), "tulle-zds-"));
    this.path = join(this.#folder, "ztunnel.sock");
    this.#server = this.#listen();
  }

  /** Proxies that have taken their snapshot. */
  get connected(): number {
    return this.#server.connected;
  }

  /** Enrols a pod; `netns`: a path such as /var/run/netns/x. Rejects when the proxy refuses it or there is none. */
  async add(uid: string, info: PodInfo, netns: string): Promise<void> {
    const pod = this.put(uid, info, netns);
    await this.#server.add(pod);
  }

  /** Into the table only: for the next snapshot. */
  put(uid: string, info: PodInfo, netns: string): AgentPod {
    this.#pods.get(uid)?.namespace?.close();
    const pod = { uid, info, namespace: NetNamespace.open(netns) };
    this.#pods.set(uid, pod);
    return pod;
  }

  async del(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    this.#pods.delete(uid);
    await this.#server.del(uid);
    pod?.namespace?.close();
  }

  /** Ends all connections and listens again, as an agent that was restarted; the pods are still known. */
  restart(): void {
    this.#server.close();
    this.#server = this.#listen();
  }

  close(): void {
    this.#server.close();
    for (const pod of this.#pods.values()) pod.namespace?.close();
    this.#pods.clear();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #listen(): ZdsServer {
    return new ZdsServer({
      path: this.path,
      log: silentLog,
      snapshot: () => [...this.#pods.values()],
      helloTimeoutMs: PATIENCE_MS,
      ackTimeoutMs: PATIENCE_MS,
    });
  }
}
