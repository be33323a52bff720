import {
  BOOT_ID_ANNOTATION,
  canonicalIp,
  LEAVING_ANNOTATION,
  messageOf,
  REDIRECTION_ANNOTATION,
  sleep,
} from "@tulle/base";
import { hasPodRules } from "@tulle/linux";
import type { KubeObject } from "@tulle/store";
import type { AgentPod } from "@tulle/zds";
import { type Decision, decide } from "@tulle/base/enrolment";
import { ruleOptions } from "../enrolment/rule-options.ts";
import type { PodNamespace } from "../namespaces/namespace-folder.ts";
import { annotationOf, ipsOf, isFinished, nameOf, newerOf, type Pod, uidOf } from "../objects.ts";
import {
  announceClaim,
  announceFault,
  enrolNew,
  enrolRunning,
  findLeftovers,
  giveUp,
  keepCaptured,
  report,
} from "./capture.ts";
import { continueLeaving, startLeaving, stay } from "./departure.ts";
import {
  closeMember,
  type Departure,
  type Entry,
  type Finding,
  memberOf,
  newEntry,
  pathOf,
  presentIps,
  type Tools,
  wrote,
} from "./entry.ts";
import { stillProven } from "./proof.ts";
import { WorkQueue } from "./work-queue.ts";

/** How often each captured pod is shown to be captured. */
export const PROVE_EVERY_MS = 1000;
/** What is looked at in one go; between two of them the process does other things. */
const PROVE_AT_ONCE = 25;
/** Undecided pods are looked at again, besides when their namespace appears. */
const UNDECIDED_MS = 1000;
/** What is under way when the agent ends. */
const CLOSE_MS = 2000;
/** Waiting for all to have left. */
const DEPARTURE_POLL_MS = 50;

export interface KeeperOptions {
  readonly tools: Tools;
  /** The namespace's object, if it is known. */
  readonly namespaceOf: (name: string) => KubeObject | undefined;
}

/** Every pod of this node: brings each to where it ought to be, keeps it there, and proves it. */
export class PodKeeper {
  readonly #tools: Tools;
  readonly #namespaceOf: KeeperOptions["namespaceOf"];
  readonly #entries = new Map<string, Entry>();
  /** Which uid a name belongs to: a pod that is made anew under its old name is another one. */
  readonly #uids = new Map<string, string>();
  readonly #queue: WorkQueue;
  #all: Departure | undefined;
  #prover: NodeJS.Timeout | undefined;

  constructor(options: KeeperOptions) {
    this.#tools = options.tools;
    this.#namespaceOf = options.namespaceOf;
    this.#queue = new WorkQueue({ work: (uid) => this.#work(uid), log: options.tools.log });
  }

  /** For ZDS: every pod that ztunnel has to serve. */
  snapshot(): AgentPod[] {
    return [...this.#entries.values()].flatMap(({ member }) => (member === undefined ? [] : [member]));
  }

  /** Pods by stage, for metrics and tests. */
  count(stage: Entry["stage"]): number {
    return this.#entries
      .values()
      .filter((entry) => entry.stage === stage)
      .toArray().length;
  }

  /**
   * After the agent's start, once, with every pod of the node: what pods say of themselves is a claim, and those whose
   * namespace is found belong into the first snapshot, so that ztunnel does not drop them while they are being proven.
   */
  start(pods: Iterable<Pod>): void {
    for (const pod of pods) {
      const entry = this.#ensure(pod);
      const claims = annotationOf(pod, REDIRECTION_ANNOTATION) ?? annotationOf(pod, LEAVING_ANNOTATION);
      if (claims === undefined || isFinished(pod) || pod.spec?.hostNetwork === true) continue;
      entry.stage = "claimed";
      entry.rules = ruleOptions(pod, this.#tools.settings.rules).options;
      try {
        const opened = this.#tools.namespaces.find(ipsOf(pod));
        if (opened !== undefined) entry.member = memberOf(pod, opened, ipsOf(pod));
      } catch (error) {
        this.#tools.log.warn("a pod's namespace is not certain", { pod: nameOf(pod), error: messageOf(error) });
      }
    }
    for (const uid of this.#entries.keys()) this.#queue.poke(uid);
    this.#prover = setInterval(() => void this.#proveAll(), PROVE_EVERY_MS);
  }

  podChanged(pod: Pod): void {
    const known = this.#entries.has(uidOf(pod));
    this.#tools.metrics.reconciled.add({ type: known ? "update" : "add" });
    const entry = this.#ensure(pod);
    entry.pod = newerOf(entry.pod, pod);
    this.#queue.poke(entry.uid);
  }

  podGone(pod: Pod): void {
    const entry = this.#entries.get(uidOf(pod));
    if (entry === undefined) return;
    this.#tools.metrics.reconciled.add({ type: "delete" });
    entry.present = false;
    this.#queue.poke(entry.uid);
  }

  /** Its labels may say something else now. */
  namespaceChanged(name: string): void {
    for (const { uid, pod } of this.#entries.values()) if (pod.metadata.namespace === name) this.#queue.poke(uid);
  }

  /** PeerAuthentications may say something else now. */
  policyChanged(): void {
    for (const entry of this.#entries.values()) {
      if (entry.stage !== "captured") continue;
      entry.judge = true;
      this.#queue.poke(entry.uid);
    }
  }

  /** A ztunnel has taken its snapshot: whoever waits for one is looked at. */
  ztunnelConnected(): void {
    for (const uid of this.#entries.keys()) this.#queue.poke(uid);
  }

  /** What a ztunnel has said to a pod of its snapshot. */
  announced(uid: string, refusal: string | undefined): void {
    const entry = this.#entries.get(uid);
    if (entry === undefined || refusal === undefined) return;
    announceFault(entry, this.#tools, { reason: "ZtunnelRefused", message: refusal });
    entry.proof = undefined;
    this.#queue.poke(uid);
  }

  /** What is to become of a pod. */
  decisionOf(pod: Pod): Decision {
    return decide(pod, this.#namespaceOf(pod.metadata.namespace ?? ""), this.#tools.settings.enrolment);
  }

  /**
   * Captures a pod that is being made. Resolves when ztunnel serves it and nothing can leave it uncaptured; rejects when
   * that cannot be had, so that the pod does not start. `open` is called when it is the pod's turn.
   */
  async addNew(pod: Pod, ips: readonly string[], open: () => PodNamespace): Promise<void> {
    const uid = uidOf(pod);
    this.#ensure(pod);
    await this.#queue.exclusive(uid, async () => {
      const entry = this.#ensure(pod);
      entry.pod = newerOf(entry.pod, pod);
      const opened = open();
      const owner = this.#entries
        .values()
        .find((one) => one !== entry && one.member?.namespace.key === opened.namespace.key);
      if (owner !== undefined) {
        opened.namespace.close();
        throw new Error(`${opened.file} is the network namespace of ${nameOf(owner.pod)} already`);
      }
      await enrolNew(entry, this.#tools, opened, ips);
    });
    this.#queue.poke(uid);
  }

  /** Takes every pod out of the mesh, until the deadlines of `all` have passed; the agent does nothing else afterwards. */
  async leaveAll(all: Departure): Promise<void> {
    clearInterval(this.#prover);
    this.#all = all;
    for (const uid of this.#entries.keys()) this.#queue.poke(uid);
    // Whatever is late is forced out by then.
    const end = all.drainUntil + CLOSE_MS;
    while (this.snapshot().length > 0 && this.#tools.now() < end) await sleep(DEPARTURE_POLL_MS);
    for (const { pod, member } of this.#entries.values()) {
      if (member !== undefined) this.#tools.log.error("could not be taken out of the mesh", { pod: nameOf(pod) });
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#prover);
    await this.#queue.close(CLOSE_MS);
    for (const entry of this.#entries.values()) {
      if (entry.member !== undefined) closeMember(entry.member);
      entry.member = undefined;
    }
  }

  #ensure(pod: Pod): Entry {
    const uid = uidOf(pod);
    let entry = this.#entries.get(uid);
    if (entry === undefined) {
      entry = newEntry(uid, pod);
      this.#entries.set(uid, entry);
      const former = this.#entries.get(this.#uids.get(nameOf(pod)) ?? "");
      this.#uids.set(nameOf(pod), uid);
      if (former !== undefined) this.podGone(former.pod);
    }
    return entry;
  }

  async #work(uid: string): Promise<number | undefined> {
    const entry = this.#entries.get(uid);
    if (entry === undefined) return undefined;
    if (!entry.present || isFinished(entry.pod)) return this.#forget(entry);
    const decision = this.#all === undefined ? this.decisionOf(entry.pod) : LEAVE_ALL;
    // What is not known yet changes nothing for a pod that is captured.
    const wanted = decision.kind === "enrol" || (decision.kind === "unknown" && entry.stage !== "outside");
    switch (entry.stage) {
      case "outside":
        await this.#dropClaims(entry, wanted);
        if (decision.kind === "unknown" && !wanted) return UNDECIDED_MS;
        if (!wanted) return this.#stayOutside(entry);
        await this.#requireOwnAddress(entry);
        await enrolRunning(entry, this.#tools);
        return undefined;
      case "claimed":
        return this.#confirm(entry, wanted);
      case "captured":
        if (!wanted) return startLeaving(entry, this.#tools, this.#all);
        await keepCaptured(entry, this.#tools);
        return undefined;
      case "announcing":
      case "draining":
        if (!wanted) return continueLeaving(entry, this.#tools, this.#all);
        await stay(entry, this.#tools);
        return undefined;
      default:
        return entry.stage satisfies never;
    }
  }

  /**
   * A pod that lost its sandbox keeps its address in the API until it has another one, and meanwhile the network may have
   * given that to somebody else: who is found by it must not be captured in this pod's name.
   */
  async #requireOwnAddress(entry: Entry): Promise<void> {
    const own = new Set(canonical(ipsOf(entry.pod)));
    const other = this.#entries
      .values()
      .find((one) => one !== entry && hasNetwork(one) && canonical(presentIps(one)).some((ip) => own.has(ip)));
    if (other === undefined) return;
    const message = `${[...own].join(", ")} is the address of ${nameOf(other.pod)} too: one of the two is out of date`;
    const finding: Finding = { reason: "NamespaceNotFound", message };
    announceFault(entry, this.#tools, finding);
    await report(entry, this.#tools, finding);
    throw new Error(message);
  }

  /** The pod has ended or is gone, and with it what ran in its namespace. */
  async #forget(entry: Entry): Promise<undefined> {
    await giveUp(entry, this.#tools);
    if (entry.present) await wrote(entry, this.#tools.status.outside(entry.pod));
    else {
      this.#entries.delete(entry.uid);
      if (this.#uids.get(nameOf(entry.pod)) === entry.uid) this.#uids.delete(nameOf(entry.pod));
    }
    return undefined;
  }

  /** Nobody but this agent says that a pod is served; peers would send HBONE to it. */
  async #dropClaims(entry: Entry, wanted: boolean): Promise<void> {
    const claim = annotationOf(entry.pod, REDIRECTION_ANNOTATION);
    if (claim === undefined) return;
    announceClaim(entry.pod, this.#tools, claim);
    const { status } = this.#tools;
    await wrote(entry, wanted ? status.disabled(entry.pod) : status.outside(entry.pod));
  }

  async #stayOutside(entry: Entry): Promise<number | undefined> {
    if (!entry.inspected && entry.pod.spec?.hostNetwork !== true) {
      entry.inspected = true;
      if (await findLeftovers(entry, this.#tools)) {
        this.#tools.log.warn("rules of an earlier agent are taken away", { pod: nameOf(entry.pod) });
        entry.stage = "captured";
        return 0;
      }
    }
    // One that came meanwhile goes by the same door, with its Event.
    if (annotationOf(entry.pod, REDIRECTION_ANNOTATION) !== undefined) return 0;
    await wrote(entry, this.#tools.status.outside(entry.pod));
    return undefined;
  }

  /** What the pod says of itself since before the agent's start is compared with what is there. */
  async #confirm(entry: Entry, wanted: boolean): Promise<number | undefined> {
    const tools = this.#tools;
    const finding = await this.#whyNotCaptured(entry);
    if (finding === undefined) {
      const leaving = annotationOf(entry.pod, LEAVING_ANNOTATION);
      if (leaving === undefined) {
        await tools.probes.put(entry.uid, ipsOf(entry.pod), entry.rules.probePorts ?? []);
        // From here on it is proven, and mended, like every other.
        entry.stage = "captured";
      } else {
        entry.leaving = { id: leaving, since: tools.now() };
        entry.stage = "announcing";
      }
      return 0;
    }
    if (wanted) {
      announceFault(entry, tools, finding);
      await report(entry, tools, finding);
    }
    await giveUp(entry, tools);
    return 0;
  }

  async #whyNotCaptured(entry: Entry): Promise<Finding | undefined> {
    const bootId = annotationOf(entry.pod, BOOT_ID_ANNOTATION);
    if (entry.member === undefined) {
      return { reason: "NamespaceNotFound", message: "no network namespace holds the pod's addresses" };
    }
    if (bootId !== undefined && bootId !== this.#tools.settings.bootId) {
      return { reason: "NodeRebooted", message: "the node has been started anew since the pod was captured" };
    }
    if (await hasPodRules(pathOf(entry.member))) return undefined;
    return { reason: "RulesChanged", message: "none of the pod's rules are there" };
  }

  async #proveAll(): Promise<void> {
    let looked = 0;
    for (const entry of [...this.#entries.values()]) {
      // What is known to be out of order is looked at by its own retries.
      if (entry.stage !== "captured" || entry.fault !== undefined) continue;
      if (!stillProven(entry, this.#tools.now())) this.#queue.poke(entry.uid);
      if (++looked % PROVE_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** One of its own. */
function hasNetwork({ pod, present }: Entry): boolean {
  return present && !isFinished(pod) && pod.spec?.hostNetwork !== true;
}

function canonical(ips: readonly string[]): string[] {
  return ips.map((ip) => canonicalIp(ip) ?? ip);
}

const LEAVE_ALL: Decision = { kind: "leave", reason: "the node agent is being removed" };
