import { randomUUID } from "node:crypto";
import { LEAVING_ANNOTATION, LEFT_ANNOTATION, messageOf, REDIRECTION_ANNOTATION, sleep } from "@tulle/base";
import { drainPodRules, podConnections, removePodRules } from "@tulle/linux";
import { annotationOf, nameOf, type Pod } from "../objects.ts";
import { announceClaim, applyRules, keepCaptured } from "./capture.ts";
import { closeMember, type Departure, type Entry, pathOf, presentIps, type Tools, wrote } from "./entry.ts";

/**
 * How a running pod gets out of the mesh without losing a connection: peers stop sending HBONE to it, then it stops being
 * captured, then its captured connections end, then ztunnel lets go of it and the rules go.
 */

/** While captured connections go on. */
const DRAIN_POLL_MS = 500;
/** ztunnel has let go of the pod: its sockets are closed, but the kernel may still deliver what they had sent. */
const RELEASE_POLL_MS = 100;
const RELEASE_POLLS = 50;

/** Begins. The annotation goes, and the control plane is asked to say when nobody counts on it any more. */
export async function startLeaving(entry: Entry, tools: Tools, all?: Departure): Promise<number | undefined> {
  const id = randomUUID();
  await write(entry, tools, all, () => tools.status.leaving(entry.pod, id));
  entry.leaving = { id, since: tools.now() };
  entry.stage = "announcing";
  entry.fault = undefined;
  tools.log.info("leaving", { pod: nameOf(entry.pod) });
  return continueLeaving(entry, tools, all);
}

/** Goes on with it. Returns after how many milliseconds to look again; undefined: the pod is outside. */
export async function continueLeaving(entry: Entry, tools: Tools, all?: Departure): Promise<number | undefined> {
  const { member } = entry;
  if (member === undefined) {
    entry.stage = "outside";
    return 0;
  }
  await keepAnnounced(entry, tools, all);
  if (entry.stage === "announcing") {
    const wait = waitFor(entry, tools, all);
    if (wait > 0) return wait;
    // A probe that is no longer translated is captured while the rules are there: the rules go first.
    await drainPodRules(pathOf(member));
    tools.probes.remove(entry.uid);
    entry.stage = "draining";
    entry.quiet = false;
    const message = "new connections no longer pass through ztunnel; captured ones go on until they end";
    await write(entry, tools, all, () =>
      tools.status.condition(entry.pod, { captured: false, reason: "Draining", message }),
    );
  }
  const overdue = all !== undefined && tools.now() >= all.drainUntil;
  if (!overdue) {
    const { inUse } = podConnections(member.namespace, entry.rules.probeIps);
    const quiet = inUse === 0;
    // Looked at twice: what the application has sent last may still be on its way through ztunnel.
    if (!quiet || !entry.quiet) {
      entry.quiet = quiet;
      return DRAIN_POLL_MS;
    }
  }
  await tools.zds.del(entry.uid);
  await removeWhenReleased(pathOf(member), overdue ? 0 : RELEASE_POLLS);
  closeMember(member);
  entry.member = undefined;
  entry.leaving = undefined;
  entry.proof = undefined;
  entry.older = 0;
  entry.stage = "outside";
  tools.log.info("left", { pod: nameOf(entry.pod) });
  await write(entry, tools, all, () => tools.status.outside(entry.pod));
  return undefined;
}

/** The pod is to be in the mesh after all. */
export async function stay(entry: Entry, tools: Tools): Promise<void> {
  const { member } = entry;
  entry.leaving = undefined;
  entry.proof = undefined;
  if (member === undefined) {
    entry.stage = "outside";
    return;
  }
  if (entry.stage === "draining") {
    await Promise.all([
      tools.zds.add(member),
      tools.probes.put(entry.uid, presentIps(entry), entry.rules.probePorts ?? []),
    ]);
    await applyRules(entry, tools, { anew: true });
  }
  entry.stage = "captured";
  tools.log.info("stays", { pod: nameOf(entry.pod) });
  await keepCaptured(entry, tools);
}

/**
 * What others write on a pod that leaves does not count: with `enabled` peers would send HBONE to it again, without the id
 * nobody would tell when they have stopped. The control plane's word is asked for anew then, for as long as was left to it.
 */
async function keepAnnounced(entry: Entry, tools: Tools, all: Departure | undefined): Promise<void> {
  const { leaving, pod } = entry;
  if (leaving === undefined) return;
  const claim = annotationOf(pod, REDIRECTION_ANNOTATION);
  if (claim === undefined && annotationOf(pod, LEAVING_ANNOTATION) === leaving.id) return;
  await write(entry, tools, all, () => tools.status.leaving(pod, leaving.id));
  // Peers may have come with it.
  entry.quiet = false;
  if (claim !== undefined && annotationOf(entry.pod, REDIRECTION_ANNOTATION) === undefined) {
    announceClaim(pod, tools, claim);
  }
}

/** When the agent is being removed it may no longer be allowed to write, and nobody comes after it to remove the rules. */
async function write(
  entry: Entry,
  tools: Tools,
  all: Departure | undefined,
  writing: () => Promise<Pod>,
): Promise<void> {
  try {
    await wrote(entry, writing());
  } catch (error) {
    if (all === undefined) throw error;
    tools.log.warn("nothing could be written on the pod", { pod: nameOf(entry.pod), error: messageOf(error) });
  }
}

/** How long the control plane's word may still be waited for. */
function waitFor(entry: Entry, tools: Tools, all: Departure | undefined): number {
  const { pod, leaving } = entry;
  if (leaving === undefined || annotationOf(pod, LEFT_ANNOTATION) === leaving.id) return 0;
  const until = Math.min(leaving.since + tools.settings.leaveTimeoutMs, all?.announceUntil ?? Number.POSITIVE_INFINITY);
  const wait = until - tools.now();
  if (wait > 0) return wait;
  const message =
    "the control plane has not said in time that every ztunnel knows that the pod leaves: peers that still count on mutual TLS may fail for a moment";
  tools.log.warn(message, { pod: nameOf(pod) });
  tools.metrics.leaveTimeouts.add();
  tools.status.event(pod, { type: "Warning", reason: "LeaveNotConfirmed", message });
  return 0;
}

async function removeWhenReleased(path: string, polls: number): Promise<void> {
  for (let i = 0; i < polls; i++) {
    if ((await removePodRules(path)) === 0) return;
    await sleep(RELEASE_POLL_MS);
  }
  await removePodRules(path, { force: true });
}
