import { request } from "node:http";
import type { Socket } from "node:net";
import { isIpv6, messageOf, sleep } from "@tulle/base";
import { connectFrom } from "@tulle/lab";
import { resolvePort } from "../objects/pod.ts";
import type { Container, Probe } from "../resources/kinds.ts";

/** Readiness as kubelet sees it. Probes come from inside the pod's namespace: nothing of them crosses the wire in plaintext. */

/** Before the first success a pod is asked at least this often: a mesh that starts is not slowed down by a long period. */
const STARTING_PERIOD_MS = 250;
/** More of a health page than anybody reads. */
const MAX_BODY_BYTES = 10 * 1024;

/** Runs a probe until the signal aborts and calls `changed` whenever its verdict does. Starts as not ready. */
export async function watchProbe(
  probe: Probe,
  check: (timeoutMs: number) => Promise<string | undefined>,
  changed: (ready: boolean, reason: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const period = (probe.periodSeconds ?? 10) * 1000;
  const timeout = (probe.timeoutSeconds ?? 1) * 1000;
  let successes = 0;
  let failures = 0;
  let ready = false;
  await sleep((probe.initialDelaySeconds ?? 0) * 1000, signal);
  while (!signal.aborted) {
    const failure = await check(timeout);
    if (signal.aborted) return;
    successes = failure === undefined ? successes + 1 : 0;
    failures = failure === undefined ? 0 : failures + 1;
    if (!ready && successes >= (probe.successThreshold ?? 1)) {
      ready = true;
      changed(true, "");
    } else if (failure !== undefined && (ready ? failures >= (probe.failureThreshold ?? 3) : true)) {
      ready = false;
      changed(false, failure);
    }
    await sleep(ready ? period : Math.min(period, STARTING_PERIOD_MS), signal);
  }
}

/** One attempt; the reason when it failed. */
export async function runProbe(
  probe: Probe,
  containers: readonly Container[],
  namespacePath: string,
  podIp: string,
  timeoutMs: number,
): Promise<string | undefined> {
  const target = probe.httpGet?.port ?? probe.tcpSocket?.port ?? 0;
  const port = resolvePort(containers, target);
  if (port === undefined) return `no container port is named ${target}`;
  let socket: Socket | undefined;
  try {
    socket = await connectFrom(namespacePath, { ip: podIp, port }, { timeoutMs });
    if (probe.httpGet === undefined) return undefined;
    return await httpStatus(socket, probe.httpGet.path ?? "/", podIp, port, probe.httpGet.httpHeaders ?? [], timeoutMs);
  } catch (error) {
    return messageOf(error);
  } finally {
    socket?.destroy();
  }
}

function httpStatus(
  socket: Socket,
  path: string,
  ip: string,
  port: number,
  headers: readonly { readonly name: string; readonly value: string }[],
  timeoutMs: number,
): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const call = request({
      path,
      createConnection: () => socket,
      headers: {
        host: isIpv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`,
        "user-agent": "kube-probe/tulle",
        connection: "close",
        ...Object.fromEntries(headers.map(({ name, value }) => [name.toLowerCase(), value])),
      },
      signal: AbortSignal.timeout(timeoutMs),
    });
    call.on("error", (error) => reject(error.name === "AbortError" ? new Error("no answer in time") : error));
    call.on("response", (answer) => {
      const status = answer.statusCode ?? 0;
      let bytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_BODY_BYTES) answer.destroy();
      });
      answer.on("error", () => {});
      answer.on("close", () => resolve(status >= 200 && status < 400 ? undefined : `it answered ${status}`));
    });
    call.end();
  });
}
