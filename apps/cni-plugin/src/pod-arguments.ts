import type { AddRequest, PodAddress } from "./agent-client.ts";
import { CniError } from "./cni-error.ts";
import { isObject } from "./network-config.ts";

/** Environment of a CNI call (CNI 1.1, "Parameters"). */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface PodName {
  readonly name: string;
  readonly namespace: string;
}

/** A name of Kubernetes: anything else would end up in paths of requests. */
const DNS_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** The pod that kubelet's runtime names in CNI_ARGS; undefined when the network is not a pod's. */
export function podOf(environment: Environment): PodName | undefined {
  const values = new Map<string, string>();
  for (const pair of (environment.CNI_ARGS ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0) values.set(pair.slice(0, at), pair.slice(at + 1));
  }
  const name = values.get("K8S_POD_NAME") ?? "";
  const namespace = values.get("K8S_POD_NAMESPACE") ?? "";
  if (name === "" || namespace === "") return undefined;
  for (const [key, value] of [
    ["K8S_POD_NAME", name],
    ["K8S_POD_NAMESPACE", namespace],
  ] as const) {
    if (DNS_NAME.test(value)) continue;
    throw new CniError(
      "invalidEnvironment",
      `istio-cni: ${key} in CNI_ARGS is no name: ${JSON.stringify(value)}`,
      "the container runtime sets it",
    );
  }
  return { name, namespace };
}

export function required(environment: Environment, name: string): string {
  const value = environment[name] ?? "";
  if (value !== "") return value;
  throw new CniError(
    "invalidEnvironment",
    `istio-cni: ${name} is not set`,
    "the container runtime sets it for every call",
  );
}

/** What the agent is asked: the pod, its namespace, and the addresses that the plugins before gave it. */
export function addRequest(
  pod: PodName,
  netns: string,
  prevResult: Readonly<Record<string, unknown>> | undefined,
): AddRequest {
  const ips = prevResult?.ips ?? [];
  if (!Array.isArray(ips)) throw badResult("ips is no list");
  return { Netns: netns, PodName: pod.name, PodNamespace: pod.namespace, IPs: ips.map(addressOf) };
}

function addressOf(entry: unknown): PodAddress {
  const { address, gateway, interface: index } = isObject(entry) ? entry : {};
  const match = typeof address === "string" ? /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(address) : null;
  const [, ip = "", bits = ""] = match ?? [];
  const width = ip.includes(":") ? 128 : 32;
  if (match === null || Number(bits) > width)
    throw badResult(`${JSON.stringify(address)} is no address with its prefix`);
  return {
    ...(typeof index === "number" && { Interface: index }),
    Address: { IP: ip, Mask: maskOf(Number(bits), width) },
    ...(typeof gateway === "string" && { Gateway: gateway }),
  };
}

function maskOf(bits: number, width: number): string {
  const bytes = Buffer.alloc(width / 8);
  for (let i = 0; i < bits; i++) bytes[i >> 3] = (bytes[i >> 3] ?? 0) | (0x80 >> (i & 7));
  return bytes.toString("base64");
}

function badResult(what: string): CniError {
  return new CniError(
    "invalidConfig",
    `istio-cni: in the result of the plugin before, ${what}`,
    "the primary CNI plugin made it",
  );
}
