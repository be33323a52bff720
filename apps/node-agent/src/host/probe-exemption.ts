import { type Log, messageOf } from "@tulle/base";
import {
  applyHostProbes,
  NetNamespace,
  type ProbeTarget,
  readHostProbes,
  readNamespaceState,
  removeHostProbes,
} from "@tulle/linux";
import type { ProbeTargets } from "../lifecycle/entry.ts";
import { cgroupIdOf, findKubelet, type Kubelet } from "./kubelet.ts";

/** Admits the kubelet's probes past ztunnel (spec: control-plane §7.7): the half of it that is in force on the host. */

export interface ProbeExemptionOptions {
  /** Path of the host's network namespace. */
  readonly hostNamespace: string;
  /** Source addresses that probes get. */
  readonly probeIps: readonly string[];
  readonly log: Log;
  /** Default: this machine's. */
  readonly kubelet?: () => Kubelet | undefined;
  /** Default 5 s. */
  readonly checkMs?: number;
  /** Default 30 s. */
  readonly adoptMs?: number;
}

export interface HostProbes extends ProbeTargets {
  /** Takes the rules away. */
  uninstall(): Promise<void>;
  close(): void;
}

/** How often it is looked at whether the rules are still there, and the kubelet's control group still the same. */
const CHECK_MS = 5000;
/** It takes a look at every process of the host. */
const LOOK_FOR_KUBELET_MS = 60_000;
/** Targets that a former agent left stay for so long: by then this one has found the pods that they belong to. */
const ADOPT_MS = 30_000;
/** Pods that come at the same moment share a transaction. */
const GATHER_MS = 5;
const ROUTING_TABLE_OF_NOBODY = 0;
/** When no kubelet can be seen, it is root's. */
const UNKNOWN_KUBELET: Kubelet = { uid: 0, cgroup: undefined, cgroupId: undefined };

/** For meshes in which nobody knocks from the host. */
export const noProbes: HostProbes = {
  put: () => Promise.resolve(),
  remove: () => {},
  uninstall: () => Promise.resolve(),
  close: () => {},
};

export class ProbeExemption implements HostProbes {
  readonly #options: ProbeExemptionOptions;
  readonly #pods = new Map<string, readonly ProbeTarget[]>();
  #adopted: readonly ProbeTarget[] = [];
  #kubelet: Kubelet = UNKNOWN_KUBELET;
  #lookedAt = 0;
  /** The kubelet is another one than the rules name. */
  #stale = false;
  /** What was read after the last change; undefined: it was not read yet. */
  #inForce: string | undefined;
  #generation: number | undefined;
  #changes = 0;
  /** The change that is under way or due, and the one behind it. */
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #closed = false;
  readonly #timers: NodeJS.Timeout[] = [];

  private constructor(options: ProbeExemptionOptions) {
    this.#options = options;
  }

  /** Rules that a former agent left stay in force. Rejects when the host's rules cannot be read. */
  static async start(options: ProbeExemptionOptions): Promise<ProbeExemption> {
    const exemption = new ProbeExemption(options);
    const { hostNamespace, log, checkMs = CHECK_MS, adoptMs = ADOPT_MS } = options;
    exemption.#adopted = (await readHostProbes(hostNamespace))?.targets ?? [];
    exemption.#lookForKubelet();
    const { uid, cgroup } = exemption.#kubelet;
    log.info("the kubelet's probes pass by ztunnel", { uid, cgroup: cgroup ?? "(any)" });
    await exemption.#change();
    exemption.#timers.push(
      setInterval(() => void exemption.#check(), checkMs),
      setTimeout(() => {
        exemption.#adopted = [];
        void exemption.#quietly();
      }, adoptMs),
    );
    return exemption;
  }

  put(uid: string, ips: readonly string[], ports: readonly number[]): Promise<void> {
    const targets = ips.flatMap((ip) => ports.map((port) => ({ ip, port })));
    if (JSON.stringify(this.#pods.get(uid) ?? []) === JSON.stringify(targets))
      return this.#next ?? this.#running ?? Promise.resolve();
    this.#pods.set(uid, targets);
    return this.#change();
  }

  remove(uid: string): void {
    const targets = this.#pods.get(uid);
    this.#pods.delete(uid);
    if (targets !== undefined && targets.length > 0) void this.#quietly();
  }

  async uninstall(): Promise<void> {
    this.close();
    await Promise.allSettled([this.#running, this.#next]);
    await removeHostProbes(this.#options.hostNamespace);
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  async #check(): Promise<void> {
    if (this.#closed) return;
    const { hostNamespace, log } = this.#options;
    const changes = this.#changes;
    try {
      const { cgroup, cgroupId } = this.#kubelet;
      const moved = cgroup !== undefined && cgroupIdOf(cgroup) !== cgroupId;
      if (moved || performance.now() - this.#lookedAt > LOOK_FOR_KUBELET_MS) this.#lookForKubelet();
      const generation = this.#generationOfHost();
      if (!this.#stale && generation === this.#generation && this.#inForce !== undefined) return;
      const text = (await readHostProbes(hostNamespace))?.text;
      // Another change of ours is under way, or came meanwhile: the next look is about that.
      if (this.#next !== undefined || this.#changes !== changes) return;
      const untouched = generation === this.#generation && generation === this.#generationOfHost();
      if (!this.#stale && untouched) this.#inForce = text;
      if (!this.#stale && text !== undefined && text === this.#inForce) {
        this.#generation = generation;
        return;
      }
      if (this.#stale) log.warn("the kubelet is another one");
      // Without a reading of ours nobody knows whose change it was.
      else if (this.#inForce !== undefined) log.warn("the host's rules for probes were changed: they are made anew");
      await this.#change();
    } catch (error) {
      log.warn("the host's rules for probes could not be checked", { error: messageOf(error) });
    }
  }

  #lookForKubelet(): void {
    this.#lookedAt = performance.now();
    const found = (this.#options.kubelet ?? findKubelet)() ?? UNKNOWN_KUBELET;
    this.#stale ||= JSON.stringify(found) !== JSON.stringify(this.#kubelet);
    this.#kubelet = found;
  }

  /** Resolves when everything that is known now is in force. */
  #change(): Promise<void> {
    if (this.#next !== undefined) return this.#next;
    const before = this.#running ?? Promise.resolve();
    const mine = before
      .catch(() => undefined)
      .then(() => new Promise((resolve) => setTimeout(resolve, GATHER_MS)))
      .then(() => {
        this.#running = mine;
        this.#next = undefined;
        return this.#apply();
      });
    this.#next = mine;
    return mine;
  }

  async #apply(): Promise<void> {
    if (this.#closed) return;
    const { hostNamespace, probeIps } = this.#options;
    const targets = [...this.#adopted, ...[...this.#pods.values()].flat()];
    const { uid, cgroup } = this.#kubelet;
    this.#changes++;
    this.#inForce = undefined;
    await applyHostProbes(hostNamespace, { sources: probeIps, uid, cgroup, targets });
    this.#stale = false;
    this.#generation = this.#generationOfHost();
    // What nft makes of it is read without letting the pods wait that have asked for it.
    setImmediate(() => void this.#check());
  }

  async #quietly(): Promise<void> {
    await this.#change().catch((error: unknown) =>
      this.#options.log.warn("the host's rules for probes could not be changed", { error: messageOf(error) }),
    );
  }

  #generationOfHost(): number | undefined {
    using host = NetNamespace.open(this.#options.hostNamespace);
    return readNamespaceState(host, ROUTING_TABLE_OF_NOBODY).rulesGeneration;
  }
}
