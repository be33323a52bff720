import { isDeepStrictEqual } from "node:util";
import type { Log } from "@tulle/base";
import { NamespaceProbe, type PodRuleOptions } from "@tulle/linux";
import type { AgentPod } from "@tulle/zds";
import type { EnrolmentSettings } from "@tulle/base/enrolment";
import type { RuleDefaults } from "../enrolment/rule-options.ts";
import type { AgentMetrics } from "../metrics.ts";
import type { NamespaceFolder, PodNamespace } from "../namespaces/namespace-folder.ts";
import { ipsOf, newerOf, type Pod } from "../objects.ts";
import type { Proof } from "./proof.ts";
import type { PodStatus } from "./pod-status.ts";

/** What the agent knows of one pod of its node, and the things that it works on pods with. */

/** A pod that ztunnel is, or is about to be, told of. */
export interface Member extends AgentPod, PodNamespace {
  readonly namespace: PodNamespace["namespace"];
  /** Addresses by which the namespace was found to be the pod's. */
  readonly ips: readonly string[];
  /**
   * What the API said of the pod's addresses at that time. Until it says something else it speaks of a former sandbox:
   * the kubelet writes the new addresses only when the pod may start.
   */
  readonly formerIps: readonly string[];
  readonly probe: NamespaceProbe;
}

export type Stage =
  /** Nothing of ours is in force. */
  | "outside"
  /** After the agent's start: the pod says that it is captured (or leaving), and nobody has looked yet. */
  | "claimed"
  | "captured"
  /** Still captured, but peers are being told to send no HBONE any more. */
  | "announcing"
  /** New connections are no longer captured; old ones still need us. */
  | "draining";

/** Why a pod is not captured as it should be. `reason`: upper camel case, stable; for condition, Event and metric. */
export interface Finding {
  readonly reason:
    | "RulesChanged"
    | "ListenersMissing"
    | "ZtunnelDisconnected"
    | "ZtunnelRefused"
    | "WrongNamespace"
    | "NamespaceNotFound"
    | "NodeRebooted";
  readonly message: string;
}

export interface Entry {
  readonly uid: string;
  /** The newest state that is known. */
  pod: Pod;
  /** False: it is no longer in the API. */
  present: boolean;
  stage: Stage;
  member: Member | undefined;
  rules: PodRuleOptions;
  /** Generation of the pod's rules in which one transaction of ours is known to be in force; undefined: they must be listed. */
  applied: number | undefined;
  /** What was in force when everything was last found in order. */
  proof: Proof | undefined;
  fault: Finding | undefined;
  leaving: { readonly id: string; readonly since: number } | undefined;
  /** While draining: no captured connection was left at the last look. */
  quiet: boolean;
  /** Connections older than enrolment, at the last look. */
  older: number;
  /** Policy has changed: connections older than enrolment are to be judged anew. */
  judge: boolean;
  /** Whether it was looked at for rules that an earlier agent left. */
  inspected: boolean;
}

export interface LifecycleSettings {
  readonly nodeName: string;
  readonly bootId: string;
  readonly enrolment: EnrolmentSettings;
  readonly rules: RuleDefaults;
  readonly leaveTimeoutMs: number;
}

/** What admits the kubelet's probes past ztunnel. */
export interface ProbeTargets {
  /** Resolves when it is in force. Rejects when that fails. */
  put(uid: string, ips: readonly string[], ports: readonly number[]): Promise<void>;
  remove(uid: string): void;
}

/** What PeerAuthentications say of a pod. */
export interface PlaintextPolicy {
  refuses(pod: Pod, port: number): boolean;
}

export interface Tools {
  readonly settings: LifecycleSettings;
  readonly zds: {
    add(pod: AgentPod): Promise<void>;
    del(uid: string): Promise<void>;
    readonly connected: number;
  };
  readonly namespaces: NamespaceFolder;
  readonly status: PodStatus;
  readonly probes: ProbeTargets;
  readonly plaintext: PlaintextPolicy;
  readonly metrics: AgentMetrics;
  readonly log: Log;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

/** When every pod has to leave because the agent is removed. */
export interface Departure {
  /** On the tools' clock. */
  readonly announceUntil: number;
  readonly drainUntil: number;
}

export function newEntry(uid: string, pod: Pod): Entry {
  return {
    uid,
    pod,
    present: true,
    stage: "outside",
    member: undefined,
    rules: {},
    applied: undefined,
    proof: undefined,
    fault: undefined,
    leaving: undefined,
    quiet: false,
    older: 0,
    judge: false,
    inspected: false,
  };
}

/** Takes over what a write has returned, unless the watch has brought something newer meanwhile. */
export async function wrote(entry: Entry, writing: Promise<Pod>): Promise<void> {
  const pod = await writing;
  entry.pod = newerOf(entry.pod, pod);
}

/** Under this path other parts open the very namespace that is held, whatever becomes of its file. */
export function pathOf({ namespace }: PodNamespace): string {
  return `/proc/${process.pid}/fd/${namespace.descriptor}`;
}

/** The addresses that the pod has: as the API says, unless that is older than what is known of its sandbox. */
export function presentIps({ pod, member }: Pick<Entry, "pod" | "member">): readonly string[] {
  const ips = ipsOf(pod);
  if (member === undefined) return ips;
  return ips.length === 0 || isDeepStrictEqual(ips, member.formerIps) ? member.ips : ips;
}

/** Takes the opened namespace over, and closes it when it throws. */
export function memberOf(pod: Pod, opened: PodNamespace, ips: readonly string[]): Member {
  const { name, namespace = "", uid = "" } = pod.metadata;
  const serviceAccount = pod.spec?.serviceAccountName ?? "default";
  try {
    const probe = NamespaceProbe.open(opened.namespace);
    return { ...opened, uid, ips, formerIps: ipsOf(pod), probe, info: { name, namespace, serviceAccount } };
  } catch (error) {
    opened.namespace.close();
    throw error;
  }
}

export function closeMember({ namespace, probe }: Member): void {
  probe.close();
  namespace.close();
}
