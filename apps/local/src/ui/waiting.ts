import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { CAPTURED_CONDITION, messageOf, sleep } from "@tulle/base";
import type { Published } from "../ingress/ingress.ts";
import { isMeshed, isReady, type Pod, readyReason, wantsMesh } from "../objects/pod.ts";
import type { Objects } from "../objects/view.ts";
import { UserError } from "../user-error.ts";
import type { Progress } from "./progress.ts";

/** Waiting until a mesh works, and saying why it does not. */

export interface PodsReadyOptions {
  readonly objects: () => Objects;
  readonly timeoutMs: number;
  readonly logsFolder: string;
  /** Added to a failure. */
  readonly hint: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

const READY_POLL_MS = 50;
/** A page that calls others may answer later than a readiness probe. */
const REQUEST_TIMEOUT_MS = 5000;
/** Endpoints reach the proxies within milliseconds of readiness; this is for a machine that is busy. */
const ANSWER_TIMEOUT_MS = 10_000;
/** From here on an answer says that something behind the service is missing (RFC 9110 §15.6). */
const SERVER_ERROR = 500;
/** Of a log, shown when something does not start. */
const TAIL_LINES = 8;

/**
 * Resolves when every pod is ready, and captured if it is to be, or the signal aborts. Throws UserError that names the others
 * when the time is over.
 */
export async function podsReady({
  objects,
  timeoutMs,
  logsFolder,
  hint,
  progress,
  signal,
}: PodsReadyOptions): Promise<void> {
  const step = progress.step("starting pods");
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { pods, namespaces } = objects();
    const homes = new Map(namespaces.map((namespace) => [namespace.metadata.name, namespace]));
    const toBeCaptured = (pod: Pod) => wantsMesh(pod, homes.get(pod.metadata.namespace));
    const waiting = pods.filter((pod) => !isReady(pod) || (toBeCaptured(pod) && !isMeshed(pod)));
    if (signal.aborted) return;
    if (pods.length > 0 && waiting.length === 0) {
      step.done(`${pods.length} ready`);
      return;
    }
    step.update(`${pods.length - waiting.length} of ${pods.length} ready`);
    if (performance.now() > deadline) {
      throw new UserError(
        ["these pods did not become ready:", ...waiting.map((pod) => notReady(pod, logsFolder))].join("\n") + hint,
        "mend what is said of them and start again; slow pods need more time: --ready-timeout SECONDS",
      );
    }
    await sleep(READY_POLL_MS, signal);
  }
}

export interface ServicesAnswerOptions {
  readonly published: readonly Published[];
  readonly hint: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Asks every published service once it can be asked; one that does not answer may be meant to, so it is only told. */
export async function servicesAnswer({ published, hint, progress, signal }: ServicesAnswerOptions): Promise<void> {
  for (const { service, url } of published) {
    const step = progress.step(`asking ${service}`);
    const deadline = performance.now() + ANSWER_TIMEOUT_MS;
    for (;;) {
      if (signal.aborted) return;
      const failure = await fetch(url, { redirect: "follow", signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) }).then(
        (answer) => (answer.status < SERVER_ERROR ? undefined : `it answered ${answer.status}`),
        (error: Error) => messageOf(error.cause ?? error),
      );
      if (failure === undefined) {
        step.done("it answers");
        break;
      }
      step.update(failure);
      if (performance.now() > deadline) {
        step.done(`no good answer from ${url}: ${failure}${hint}`);
        break;
      }
      await sleep(READY_POLL_MS, signal);
    }
  }
}

/** The last words of these logs: they go with the folder. */
export function logTails(paths: readonly string[]): string {
  return paths
    .filter((path) => existsSync(path))
    .map((path) => {
      const lines = readFileSync(path, "utf8").trimEnd().split("\n").slice(-TAIL_LINES);
      return `\n  ${basename(path)}:\n${lines.map((line) => `    ${line}`).join("\n")}`;
    })
    .join("");
}

function notReady(pod: Pod, logsFolder: string): string {
  const { namespace, name } = pod.metadata;
  const captured = pod.status?.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
  const reason = isReady(pod)
    ? `it is not captured: ${captured?.message ?? "its node's agent has not said anything"}`
    : (readyReason(pod) ?? "it has not started");
  const logs = readdirSync(logsFolder).filter((file) => file.startsWith(`${namespace}.${name}.`));
  return `  ${namespace}/${name}: ${reason}${logTails(logs.map((file) => join(logsFolder, file)))}`;
}
