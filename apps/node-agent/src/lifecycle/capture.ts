import { messageOf, REDIRECTION_ANNOTATION } from "@tulle/base";
import { applyPodRules, destroyTcpSockets, directConnections, hasPodRules, podConnections } from "@tulle/linux";
import { type ApplyOptions, type SocketEntry, removePodRules, TcpState, tcpSockets } from "@tulle/linux";
import { isDeepStrictEqual } from "node:util";
import { ruleOptions } from "../enrolment/rule-options.ts";
import type { PodNamespace } from "../namespaces/namespace-folder.ts";
import { ipsOf, nameOf, type Pod } from "../objects.ts";
import { closeMember, type Entry, type Finding, memberOf, pathOf, presentIps, type Tools, wrote } from "./entry.ts";
import { look, stillProven } from "./proof.ts";

/** How a pod gets into the mesh, and how it is kept there. Each function brings one pod forward and may be called again. */

/** Below this ports are not given out by the kernel (net.ipv4.ip_local_port_range): one end of a connection on it serves. */
const FIRST_EPHEMERAL_PORT = 32_768;
/** Rules, then listeners, then whatever that has shown; a pod that still is not in order is tried again later. */
const MAX_REPAIRS = 3;

/** A pod that runs already: ztunnel first, then the rules, so that no connection meets a closed door. */
export async function enrolRunning(entry: Entry, tools: Tools): Promise<void> {
  const ips = ipsOf(entry.pod);
  // Without an address it has no network yet: the plugin brings it, or the kubelet's next word does.
  if (ips.length === 0 || entry.pod.metadata.deletionTimestamp !== undefined) return;
  const opened = await openOf(entry, tools, () => tools.namespaces.find(ips));
  entry.member = memberOf(entry.pod, opened, ips);
  try {
    await chooseRules(entry, tools);
    await Promise.all([tools.zds.add(entry.member), tools.probes.put(entry.uid, ips, entry.rules.probePorts ?? [])]);
    await applyRules(entry, tools);
  } catch (error) {
    await giveUp(entry, tools);
    const reason = tools.zds.connected === 0 ? "ZtunnelDisconnected" : "ZtunnelRefused";
    await report(entry, tools, { reason, message: `not captured yet: ${messageOf(error)}` });
    throw error;
  }
  entry.stage = "captured";
  tools.log.info("captured", { pod: nameOf(entry.pod), older: entry.older });
  await keepCaptured(entry, tools);
}

/** A pod whose containers have not started: nothing may leave it uncaptured, so the rules come first. */
export async function enrolNew(
  entry: Entry,
  tools: Tools,
  opened: PodNamespace,
  ips: readonly string[],
): Promise<void> {
  const former = entry.member;
  entry.member = memberOf(entry.pod, opened, ips);
  entry.proof = undefined;
  try {
    await chooseRules(entry, tools);
    await applyRules(entry, tools);
    await tools.zds.add(entry.member);
    const finding = await look(entry, tools);
    if (finding !== undefined) throw new Error(finding.message);
    await tools.probes.put(entry.uid, ips, entry.rules.probePorts ?? []);
  } catch (error) {
    await giveUp(entry, tools);
    throw error;
  } finally {
    // A sandbox that was made anew: ztunnel has let go of the old namespace when it took the new one.
    if (former !== undefined) closeMember(former);
  }
  entry.stage = "captured";
  entry.fault = undefined;
  entry.leaving = undefined;
  tools.log.info("captured before its start", { pod: nameOf(entry.pod) });
}

/** Proves that a captured pod is captured, mends what is not, and says so on the pod. Throws while it cannot be mended. */
export async function keepCaptured(entry: Entry, tools: Tools): Promise<void> {
  if (await chooseRules(entry, tools)) await applyRules(entry, tools);
  if (!stillProven(entry, tools.now())) {
    const finding = await look(entry, tools);
    if (finding !== undefined) await mend(entry, tools, finding);
    if (entry.stage !== "captured") return;
    if (entry.fault !== undefined) restored(entry, tools, entry.fault);
    entry.judge = true;
  }
  if (entry.judge) lookAtOlder(entry, tools);
  await wrote(entry, tools.status.enabled(entry.pod));
  const older =
    entry.older === 0 ? "" : `; ${entry.older} connections older than that go on past ztunnel, in plaintext`;
  await wrote(
    entry,
    tools.status.condition(entry.pod, {
      captured: true,
      reason: "Captured",
      message: `new connections pass through ztunnel${older}`,
    }),
  );
}

/** Resets the pod's plaintext connections from before enrolment that PeerAuthentication refuses; counts the others. */
export function lookAtOlder(entry: Entry, tools: Tools): void {
  if (entry.member === undefined) return;
  entry.judge = false;
  const { namespace } = entry.member;
  const serving = new Set(tcpSockets(namespace, [TcpState.LISTEN]).map(({ local }) => local.port));
  const direct = directConnections(() => podConnections(namespace, entry.rules.probeIps));
  // Outgoing ones are the other side's to judge.
  const refused = direct.filter(
    ({ local }) =>
      (serving.has(local.port) || local.port < FIRST_EPHEMERAL_PORT) && tools.plaintext.refuses(entry.pod, local.port),
  );
  entry.older = direct.length - refused.length;
  if (refused.length > 0) cut(entry, tools, refused);
}

/** What an earlier agent left in a pod that is not (or no longer) to be in the mesh. */
export async function findLeftovers(entry: Entry, tools: Tools): Promise<boolean> {
  const opened = tools.namespaces.find(ipsOf(entry.pod));
  if (opened === undefined) return false;
  const member = memberOf(entry.pod, opened, ipsOf(entry.pod));
  const found = await hasPodRules(pathOf(member)).catch((error: unknown) => {
    closeMember(member);
    throw error;
  });
  if (!found) {
    closeMember(member);
    return false;
  }
  entry.member = member;
  entry.rules = ruleOptions(entry.pod, tools.settings.rules).options;
  return true;
}

/** Forgets a pod that is not captured after all. */
export async function giveUp(entry: Entry, tools: Tools): Promise<void> {
  const { member } = entry;
  entry.member = undefined;
  entry.proof = undefined;
  entry.stage = "outside";
  tools.probes.remove(entry.uid);
  if (member === undefined) return;
  await tools.zds.del(entry.uid);
  closeMember(member);
}

/** Says on the pod that it is not captured. The API's being away must not keep anything from being mended. */
export async function report(entry: Entry, tools: Tools, finding: Finding): Promise<void> {
  try {
    await wrote(entry, tools.status.condition(entry.pod, { captured: false, ...finding }));
  } catch (error) {
    tools.log.warn("the pod's condition could not be written", { pod: nameOf(entry.pod), error: messageOf(error) });
  }
}

/** A fault is told once, when it begins. */
export function announceFault(entry: Entry, tools: Tools, finding: Finding): void {
  if (entry.fault?.reason !== finding.reason) {
    tools.metrics.faults.add({ reason: finding.reason });
    tools.log.warn("not captured", { pod: nameOf(entry.pod), reason: finding.reason, message: finding.message });
    tools.status.event(entry.pod, {
      type: "Warning",
      reason: "CaptureLost",
      message: `${finding.reason}: ${finding.message}`,
    });
  }
  entry.fault = finding;
}

/** Says that the redirection annotation was somebody else's, and went. */
export function announceClaim(pod: Pod, tools: Tools, claim: string): void {
  const message = `${REDIRECTION_ANNOTATION}=${claim} was taken away: this node's agent has not confirmed it`;
  tools.log.warn(message, { pod: nameOf(pod) });
  tools.status.event(pod, { type: "Warning", reason: "RedirectionNotConfirmed", message });
}

async function mend(entry: Entry, tools: Tools, first: Finding): Promise<void> {
  announceFault(entry, tools, first);
  // Said while it is being mended: neither waits for the other.
  const said = report(entry, tools, first);
  let finding: Finding | undefined = first;
  try {
    for (let i = 0; i < MAX_REPAIRS && finding !== undefined && entry.stage === "captured"; i++) {
      await repair(entry, tools, finding);
      if (entry.stage === "captured") finding = await look(entry, tools);
    }
  } catch (error) {
    finding = {
      ...(finding ?? first),
      message: `${(finding ?? first).message}; mending it failed: ${messageOf(error)}`,
    };
  }
  await said;
  if (finding !== undefined) {
    announceFault(entry, tools, finding);
    await report(entry, tools, finding);
    // A namespace that was the wrong one has been given up: the pod is looked for again.
    if (entry.stage !== "captured") await wrote(entry, tools.status.disabled(entry.pod));
    throw new Error(`${finding.reason}: ${finding.message}`);
  }
}

function restored(entry: Entry, tools: Tools, fault: Finding): void {
  entry.fault = undefined;
  tools.metrics.repairs.add();
  tools.log.info("captured again", { pod: nameOf(entry.pod), after: fault.reason });
  tools.status.event(entry.pod, {
    type: "Normal",
    reason: "CaptureRestored",
    message: `in order again: ${fault.reason}`,
  });
}

async function repair(entry: Entry, tools: Tools, finding: Finding): Promise<void> {
  const { member } = entry;
  if (member === undefined) return;
  switch (finding.reason) {
    case "RulesChanged":
      await applyRules(entry, tools, { anew: true });
      // Somebody has just interfered: it is looked at whole.
      entry.applied = undefined;
      return;
    case "ZtunnelRefused":
    case "ListenersMissing":
      await tools.zds.add(member);
      // ztunnel believes that it serves the pod: it has to begin anew.
      if ((await look(entry, tools))?.reason !== "ListenersMissing") return;
      await tools.zds.del(entry.uid);
      await tools.zds.add(member);
      return;
    case "ZtunnelDisconnected":
      // Its snapshot will hold the pod.
      return;
    case "WrongNamespace":
    case "NamespaceNotFound":
    case "NodeRebooted":
      // Whosever it is, it must not be captured in this pod's name.
      await removePodRules(pathOf(member), { force: true }).catch((error: unknown) =>
        tools.log.warn("rules are left in a namespace that is not the pod's", { error: messageOf(error) }),
      );
      await giveUp(entry, tools);
      return;
    default:
      finding.reason satisfies never;
  }
}

/** True: they are other rules than before. */
async function chooseRules(entry: Entry, tools: Tools): Promise<boolean> {
  const { options, ignored } = ruleOptions(entry.pod, tools.settings.rules);
  if (isDeepStrictEqual(options, entry.rules)) return false;
  for (const text of ignored) {
    tools.log.warn("an annotation is ignored", { pod: nameOf(entry.pod), annotation: text });
    tools.status.event(entry.pod, { type: "Warning", reason: "AnnotationIgnored", message: text });
  }
  entry.rules = options;
  entry.proof = undefined;
  if (entry.stage === "captured") await tools.probes.put(entry.uid, presentIps(entry), options.probePorts ?? []);
  return true;
}

/** Puts the rules in force that were chosen; `entry.applied` says whether they still have to be proven. */
export async function applyRules(entry: Entry, tools: Tools, how: ApplyOptions = {}): Promise<void> {
  if (entry.member === undefined) return;
  const applied = await applyPodRules(pathOf(entry.member), entry.rules, how);
  const { notes, establishedBefore, changed } = applied;
  entry.applied = applied.generation;
  for (const note of notes) tools.log.warn(note, { pod: nameOf(entry.pod) });
  entry.older = establishedBefore;
  if (changed && establishedBefore > 0) tools.metrics.older.add({}, establishedBefore);
}

async function openOf(entry: Entry, tools: Tools, find: () => PodNamespace | undefined): Promise<PodNamespace> {
  let message = `no network namespace holds ${ipsOf(entry.pod).join(", ")}`;
  try {
    const found = find();
    if (found !== undefined) return found;
  } catch (error) {
    message = messageOf(error);
  }
  const finding: Finding = { reason: "NamespaceNotFound", message };
  announceFault(entry, tools, finding);
  await report(entry, tools, finding);
  throw new Error(message);
}

function cut(entry: Entry, tools: Tools, refused: readonly SocketEntry[]): void {
  if (entry.member === undefined) return;
  const count = destroyTcpSockets(entry.member.namespace, refused);
  tools.metrics.cut.add({}, count);
  const message = `${count} plaintext connections from before enrolment were reset: PeerAuthentication requires mutual TLS`;
  tools.log.info(message, { pod: nameOf(entry.pod) });
  tools.status.event(entry.pod, { type: "Normal", reason: "PlaintextCut", message });
}
