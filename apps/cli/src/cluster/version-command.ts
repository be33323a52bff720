import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { messageOf } from "@tulle/base";
import type { ClusterFlags } from "../command.ts";
import type { CliContext } from "../context.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { WARNING } from "../ui/style.ts";
import { renderTable } from "../ui/table.ts";
import { VERSION } from "../version.ts";
import type { MeshVersions } from "./versions.ts";

export interface VersionFlags extends ClusterFlags {
  readonly output: OutputFormat;
  readonly remote: boolean;
}

/** `tulle version` with a cluster in reach: what of Tulle runs where. Without one, only this program's own version. */
export async function showVersion(context: CliContext, flags: VersionFlags): Promise<void> {
  const there = flags.remote && hasKubeconfig(context, flags) ? await ask(context, flags) : undefined;
  if (flags.output === "json" || flags.output === "yaml") {
    const value = {
      clientVersion: { version: VERSION, node: process.versions.node },
      ...(there !== undefined && {
        meshVersion: there.controlPlanes.map(({ name, version }) => ({
          Component: "pilot",
          Name: name,
          Info: { version },
        })),
        dataPlaneVersion: there.proxies.map(({ name, version }) => ({ ID: name, IstioVersion: version })),
      }),
    };
    context.process.stdout.write(await structured(value, flags.output));
    return;
  }
  context.process.stdout.write(flags.output === "wide" ? versionTable(there) : versionText(there));
}

/** Lines as istioctl prints them. */
export function versionText(there: MeshVersions | undefined): string {
  const lines = [`client version: ${VERSION}`];
  if (there === undefined) return `${lines[0]}\n`;
  const versions = new Set(there.controlPlanes.map(({ version }) => version));
  if (versions.size === 1) lines.push(`control plane version: ${[...versions][0]}`);
  else lines.push(...there.controlPlanes.map(({ name, version }) => `${name} version: ${version}`));
  const counts = new Map<string, number>();
  for (const proxy of there.proxies) {
    const version = proxy.version || "unknown";
    counts.set(version, (counts.get(version) ?? 0) + 1);
  }
  const proxies = [...counts]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([version, count]) => `${version} (${count} proxies)`);
  if (there.controlPlanes.length > 0)
    lines.push(`data plane version: ${proxies.length === 0 ? "none" : proxies.join(", ")}`);
  return `${lines.join("\n")}\n`;
}

/** Every component by its name. */
export function versionTable(there: MeshVersions | undefined): string {
  const rows = [
    ["client", "tulle", `${VERSION} (Node ${process.versions.node})`],
    ...(there?.controlPlanes ?? []).map(({ name, version }) => ["control plane", name, version]),
    ...(there?.proxies ?? []).map(({ name, version }) => ["proxy", name, version || "unknown"]),
  ];
  return renderTable({ columns: ["COMPONENT", "NAME", "VERSION"], rows }, 2);
}

async function ask(context: CliContext, flags: VersionFlags): Promise<MeshVersions | undefined> {
  try {
    await using cluster = await context.connect(flags);
    const { meshVersions } = await import("./versions.ts");
    const versions = await meshVersions(cluster, flags.istioNamespace);
    for (const problem of versions.problems) context.process.stderr.write(`${WARNING} ${problem}\n`);
    return versions;
  } catch (error) {
    context.process.stderr.write(`${WARNING} the cluster does not answer: ${messageOf(error)}\n`);
    return undefined;
  }
}

function hasKubeconfig(context: CliContext, flags: VersionFlags): boolean {
  if (flags.context !== undefined || flags.kubeconfig !== undefined) return true;
  const env = context.process.env ?? {};
  return (env["KUBECONFIG"] ?? "") !== "" || existsSync(join(env["HOME"] ?? homedir(), ".kube", "config"));
}
