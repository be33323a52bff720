import type { Objects } from "../objects/view.ts";
import { isMeshed, isReady, pidOf, type Pod, podIdentity } from "../objects/pod.ts";
import type { Published } from "../ingress/ingress.ts";
import type { Process } from "../system/mesh.ts";

/** What is printed when everything is ready: who runs where, under which identity, and what to try next. */

export interface SummaryOptions {
  readonly objects: Objects;
  /** Of the mesh, for the command line. */
  readonly name: string;
  readonly published: readonly Published[];
  readonly directory: string;
  readonly logsFolder: string;
  readonly bridge: string;
  /** Name of a pod's network namespace. */
  readonly namespaceOf: (pod: Pod) => string;
  readonly processes: readonly Process[];
}

export function summary(options: SummaryOptions): string {
  const pods = [...options.objects.pods].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  const rows = pods.map((pod) => [
    nameOf(pod),
    pod.spec.nodeName,
    isReady(pod) ? "ready" : "not ready",
    pod.status?.podIP ?? "-",
    isMeshed(pod) ? "HBONE (mTLS)" : "plaintext",
    isMeshed(pod) ? podIdentity(pod) : "-",
    (pod.status?.containerStatuses ?? []).map((status) => pidOf(status) ?? "-").join(","),
  ]);
  const processes = options.processes.map(({ node, address, role, pid }) => [node, address, role, String(pid ?? "-")]);
  return [
    table(["NODE", "ADDRESS", "PROCESS", "PID"], processes),
    "",
    table(["POD", "NODE", "STATE", "ADDRESS", "PROTOCOL", "IDENTITY", "PID"], rows),
    "",
    ...nextSteps(options, pods),
    "",
    "Ctrl-C ends the mesh and removes everything it made.",
    "",
  ].join("\n");
}

function nextSteps(options: SummaryOptions, pods: readonly Pod[]): string[] {
  const { published, directory, logsFolder, bridge, namespaceOf, name, processes } = options;
  const [first] = published;
  const steps: (readonly [string, string])[] = published.map(({ service, url }) => [
    `open ${service.split("/")[1]} (plaintext on this machine up to the ingress pod)`,
    url,
  ]);
  if (first !== undefined) steps.push(["or ask for it", `curl -sL ${first.url}`]);
  steps.push(["change who may call whom: edit and save", `${directory}/*.yaml`]);
  const meshed = pods.find((pod) => isMeshed(pod) && pod.metadata.ownerReferences !== undefined);
  if (meshed !== undefined) {
    steps.push(["step into a pod's network", `ip netns exec ${namespaceOf(meshed)} nft list ruleset`]);
    const [pid] = (meshed.status?.containerStatuses ?? []).map(pidOf);
    if (pid !== undefined) steps.push([`kill ${nameOf(meshed)}`, `kill -9 ${pid}`]);
  }
  steps.push(["see what crosses the wire", `tcpdump -ni ${bridge} -X tcp`]);
  for (const { node, namespace } of processes.filter(({ role }) => role === "ztunnel")) {
    steps.push([`ask ${node}'s ztunnel`, `ip netns exec ${namespace} curl -s localhost:15000/config_dump`]);
  }
  steps.push(["see objects with their status", `tulle get authorizationpolicies -A --local ${name}`]);
  steps.push(["read the logs", `${logsFolder}/`]);
  const width = Math.max(...steps.map(([what]) => what.length));
  return ["Try next:", ...steps.map(([what, how]) => `  ${what.padEnd(width)}  ${how}`)];
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => (column === head.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join("  ");
  return [line(head), ...rows.map(line)].join("\n");
}

function nameOf(pod: Pod): string {
  return `${pod.metadata.namespace}/${pod.metadata.name}`;
}
