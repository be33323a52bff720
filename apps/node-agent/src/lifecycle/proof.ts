import { statSync } from "node:fs";
import {
  canonicalIp,
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MARK_MASK,
  OUTBOUND_PORT,
  PACKET_MARK,
} from "@tulle/base";
import {
  type NamespaceProbe,
  type PodRuleOptions,
  ROUTING_TABLE,
  readNamespaceState,
  verifyPodRules,
} from "@tulle/linux";
import { type Entry, type Finding, type Member, pathOf, presentIps, type Tools } from "./entry.ts";

/**
 * That a pod is captured is shown, not believed: its namespace is the one that holds its address, the rules in it are
 * exactly ours, and ztunnel listens there. A whole look reads the rules with nft; between two whole looks it is enough that
 * the kernel's generation of the rules, the routing and the addresses are still the same, which costs no program.
 */
export interface Proof {
  readonly rulesGeneration: number | undefined;
  readonly routing: string;
  readonly addresses: string;
  /** When the whole look was, on the tools' clock. */
  readonly at: number;
}

/** Settings of the pod that no generation counts, and connections older than enrolment, are looked at this often. */
export const WHOLE_LOOK_MS = 60_000;
/** Differences that are told; the rest is counted. */
const MAX_TOLD = 3;
const TCP_PORTS = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT];

/**
 * Whether everything is as it was at the last whole look, which must not be too long ago. Costs some system calls. Once it
 * is not, the proof is gone: the kernel tells of a change only once.
 */
export function stillProven(entry: Entry, now: number): boolean {
  const { proof, member, fault } = entry;
  if (proof === undefined || member === undefined || fault !== undefined) return false;
  if (now - proof.at <= WHOLE_LOOK_MS && isAsProven(entry, member, proof)) return true;
  entry.proof = undefined;
  return false;
}

/** The whole look. Undefined: the pod is captured, and `entry.proof` says so. Throws when it cannot be found out. */
export async function look(entry: Entry, tools: Tools): Promise<Finding | undefined> {
  const { member, rules } = entry;
  entry.proof = undefined;
  if (member === undefined) return { reason: "NamespaceNotFound", message: "the pod's network namespace is not known" };
  const wrong = tools.namespaces.whyNot(member, expectedIps(entry));
  if (wrong !== undefined) return { reason: "WrongNamespace", message: wrong };
  // Before the rules are read: a change in between is noticed at the next look.
  member.probe.routingChanged();
  const state = stateOf(member);
  const justApplied = entry.applied !== undefined && entry.applied === state.rulesGeneration;
  // Once: it says nothing of the settings that the rules count on, which may change later.
  entry.applied = undefined;
  const verdict = justApplied ? { ok: true as const } : await verifyPodRules(pathOf(member), rules);
  if (!verdict.ok) return { reason: "RulesChanged", message: shortened(verdict.differences) };
  const gaps = listenerGaps(member.probe, rules);
  if (gaps.length > 0) {
    const message = `ztunnel does not listen in the pod on ${gaps.join(", ")}`;
    return tools.zds.connected === 0
      ? { reason: "ZtunnelDisconnected", message: `${message}: no ztunnel is connected to this node's agent` }
      : { reason: "ListenersMissing", message };
  }
  entry.proof = { ...state, at: tools.now() };
  return undefined;
}

/** Ports on which ztunnel ought to listen in a pod, and does not: `15008`, `15053/udp`. */
export function listenerGaps(probe: NamespaceProbe, rules: PodRuleOptions): string[] {
  const gaps = TCP_PORTS.filter((port) => !isOwn(probe.markOf("tcp", port))).map(String);
  if (rules.dnsCapture === false) return gaps;
  if (!isOwn(probe.markOf("tcp", DNS_PORT))) gaps.push(`${DNS_PORT}/tcp`);
  if (!isOwn(probe.markOf("udp", DNS_PORT))) gaps.push(`${DNS_PORT}/udp`);
  return gaps;
}

/** Sockets of the application on the same ports are none of ztunnel's: those carry its mark. */
function isOwn(mark: number | undefined): boolean {
  return mark !== undefined && (mark & MARK_MASK) === PACKET_MARK;
}

function isAsProven(entry: Entry, member: Member, proof: Proof): boolean {
  try {
    if (member.probe.rulesGeneration() !== proof.rulesGeneration) return false;
    if (member.probe.routingChanged()) {
      const { routing, addresses } = stateOf(member);
      if (routing !== proof.routing || addresses !== proof.addresses) return false;
    }
    const present = proof.addresses.split(" ");
    return (
      expectedIps(entry).every((ip) => present.includes(ip)) &&
      isSameFile(member) &&
      listenerGaps(member.probe, entry.rules).length === 0
    );
  } catch {
    // Whatever it was, the whole look finds out and says so.
    return false;
  }
}

function stateOf(member: Member) {
  const { rulesGeneration, routing, addresses } = readNamespaceState(member.namespace, ROUTING_TABLE);
  return { rulesGeneration, routing, addresses: addresses.toSorted().join(" ") };
}

function expectedIps(entry: Entry): readonly string[] {
  return presentIps(entry).map((ip) => canonicalIp(ip) ?? ip);
}

/** `key` is `device:inode`. */
function isSameFile({ file, namespace }: Member): boolean {
  return statSync(file, { throwIfNoEntry: false })?.ino === Number(namespace.key.split(":")[1]);
}

function shortened(differences: readonly string[]): string {
  const more = differences.length - MAX_TOLD;
  return `${differences.slice(0, MAX_TOLD).join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}
