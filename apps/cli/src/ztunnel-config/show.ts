import { FAILED } from "../command.ts";
import type { CliContext } from "../context.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { WARNING } from "../ui/style.ts";
import { renderTable, type Table, withColumn } from "../ui/table.ts";
import { collect, type Collected, type NodeDump, type SourceFlags } from "./collect.ts";
import type { PolicyDump, ServiceDump, WorkloadDump } from "./dump.ts";
import { mergeNodes } from "./merge.ts";
import {
  AddressNames,
  addressOf,
  certificateTable,
  connectionTable,
  policyTable,
  serviceTable,
  sortedCertificates,
  sortedPolicies,
  sortedServices,
  sortedStates,
  sortedWorkloads,
  workloadTable,
} from "./tables.ts";
import { type Extra, WIDE_CERTIFICATE, WIDE_CONNECTION, WIDE_POLICY, WIDE_SERVICE, WIDE_WORKLOAD } from "./wide.ts";

/** `tulle ztunnel-config …`: what the ztunnels know and do. */

export interface ShowFlags extends SourceFlags {
  readonly output: OutputFormat;
}

export interface WorkloadFlags extends ShowFlags {
  readonly workloadNamespace?: string | undefined;
  readonly workloadNode?: string | undefined;
  readonly address?: string | undefined;
}

export interface ServiceFlags extends ShowFlags {
  readonly serviceNamespace?: string | undefined;
}

export interface PolicyFlags extends ShowFlags {
  readonly policyNamespace?: string | undefined;
}

export interface ConnectionFlags extends ShowFlags {
  readonly direction?: "inbound" | "outbound" | undefined;
  readonly workloadNamespace?: string | undefined;
  readonly raw: boolean;
}

export interface AllFlags extends ShowFlags {
  readonly withHeaders: boolean;
}

/** As istioctl sets certificates apart. */
const CERTIFICATE_GAP = 5;

export async function showWorkloads(context: CliContext, flags: WorkloadFlags, pod?: string): Promise<number> {
  const collected = await collect(context, flags, pod);
  const { entries, services } = mergedMesh(context, collected);
  const shown = entries.workloads.filter(
    (workload) =>
      (flags.workloadNamespace === undefined || workload.namespace === flags.workloadNamespace) &&
      (flags.workloadNode === undefined || workload.node === flags.workloadNode) &&
      (flags.address === undefined || addressOf(workload).split(",").includes(flags.address)) &&
      (collected.pod === undefined ||
        (workload.namespace === collected.pod.namespace && workload.name === collected.pod.name)),
  );
  return print(context, flags, collected, sortedWorkloads(shown), () =>
    renderTable(workloadTable(shown, services, wide(flags, WIDE_WORKLOAD))),
  );
}

export async function showServices(context: CliContext, flags: ServiceFlags, pod?: string): Promise<number> {
  const collected = await collect(context, flags, pod);
  const { services } = mergedMesh(context, collected);
  const shown = services.filter(({ namespace }) => (flags.serviceNamespace ?? namespace) === namespace);
  return print(context, flags, collected, sortedServices(shown), () =>
    renderTable(serviceTable(shown, services, wide(flags, WIDE_SERVICE))),
  );
}

export async function showPolicies(context: CliContext, flags: PolicyFlags, pod?: string): Promise<number> {
  const collected = await collect(context, flags, pod);
  const { entries } = mergedMesh(context, collected);
  const shown = entries.policies.filter(({ namespace }) => (flags.policyNamespace ?? namespace) === namespace);
  return print(context, flags, collected, sortedPolicies(shown), () =>
    renderTable(policyTable(shown, wide(flags, WIDE_POLICY))),
  );
}

export async function showCertificates(context: CliContext, flags: ShowFlags, pod?: string): Promise<number> {
  const collected = await collect(context, flags, pod);
  const data = collected.dumps.flatMap(({ node, certificates }) =>
    named(collected, node, sortedCertificates(certificates)),
  );
  return print(context, flags, collected, data, () => certificates(collected, flags));
}

export async function showConnections(context: CliContext, flags: ConnectionFlags, pod?: string): Promise<number> {
  const collected = await collect(context, flags, pod);
  const data = collected.dumps.flatMap(({ node, ...dump }) =>
    named(collected, node, sortedStates(statesOf(dump, collected, flags))).map((state) => ({
      ...state,
      connections: {
        inbound: flags.direction === "outbound" ? [] : (state.connections?.inbound ?? []),
        outbound: flags.direction === "inbound" ? [] : (state.connections?.outbound ?? []),
      },
    })),
  );
  return print(context, flags, collected, data, () => connections(collected, flags));
}

export async function showAll(context: CliContext, flags: AllFlags, pod?: string): Promise<number> {
  const collected = await collect(context, flags, pod);
  const [first] = collected.dumps;
  const data = collected.single ? first?.raw : Object.fromEntries(collected.dumps.map(({ node, raw }) => [node, raw]));
  const { entries, services } = mergedMesh(context, collected);
  return print(context, flags, collected, data, () => {
    const parts: readonly (readonly [title: string, text: string])[] = [
      ["Workloads", renderTable(workloadTable(entries.workloads, services, wide(flags, WIDE_WORKLOAD)))],
      ["Services", renderTable(serviceTable(services, services, wide(flags, WIDE_SERVICE)))],
      ["Policies", renderTable(policyTable(entries.policies, wide(flags, WIDE_POLICY)))],
      ["Certificates", certificates(collected, flags)],
      ["Connections", connections(collected, { output: flags.output, raw: false })],
    ];
    return parts.map(([title, text]) => (flags.withHeaders ? `${title}\n${text}` : text)).join("\n");
  });
}

async function print(
  context: CliContext,
  { output }: ShowFlags,
  { incomplete }: Collected,
  data: unknown,
  table: () => string,
): Promise<number> {
  context.process.stdout.write(output === "json" || output === "yaml" ? await structured(data, output) : table());
  return incomplete ? FAILED : 0;
}

/** What all ztunnels know; where they differ is told on standard error. */
function mergedMesh(context: CliContext, { dumps }: Collected) {
  const qualified = (kind: string) => (entry: WorkloadDump | ServiceDump | PolicyDump) =>
    `${kind} ${"uid" in entry && entry.uid !== undefined ? entry.uid : `${entry.namespace}/${"hostname" in entry ? entry.hostname : entry.name}`}`;
  const merge = <T extends WorkloadDump | ServiceDump | PolicyDump>(
    kind: string,
    of: (dump: NodeDump) => readonly T[],
  ) =>
    mergeNodes(
      dumps.map((dump) => ({ node: dump.node, entries: of(dump) })),
      qualified(kind),
    );
  const workloads = merge("workload", (dump) => dump.workloads);
  const services = merge("service", (dump) => dump.services);
  const policies = merge("policy", (dump) => dump.policies);
  for (const difference of [...workloads.differences, ...services.differences, ...policies.differences]) {
    context.process.stderr.write(`${WARNING} ${difference}\n`);
  }
  return { entries: { workloads: workloads.entries, policies: policies.entries }, services: services.entries };
}

function certificates({ dumps, single }: Collected, flags: ShowFlags): string {
  const now = Date.now();
  const extra = wide(flags, WIDE_CERTIFICATE);
  const tables = dumps.map(({ node, certificates }) => ({ node, table: certificateTable(certificates, now, extra) }));
  return renderTable(joined(tables, single), CERTIFICATE_GAP);
}

function connections(
  collected: Collected,
  flags: Pick<ConnectionFlags, "output" | "raw"> & Partial<ConnectionFlags>,
): string {
  const { dumps, single } = collected;
  const names = flags.raw ? undefined : new AddressNames(meshOf(dumps));
  const tables = dumps.map((dump) => ({
    node: dump.node,
    table: connectionTable(statesOf(dump, collected, flags), flags.direction, names, wide(flags, WIDE_CONNECTION)),
  }));
  return renderTable(joined(tables, single));
}

function meshOf(dumps: readonly NodeDump[]) {
  return {
    workloads: dumps.flatMap(({ workloads }) => workloads),
    services: dumps.flatMap(({ services }) => services),
  };
}

function statesOf(
  dump: Pick<NodeDump, "workloadState">,
  { pod }: Collected,
  { workloadNamespace }: Partial<ConnectionFlags>,
) {
  return Object.values(dump.workloadState).filter(
    ({ info }) =>
      (workloadNamespace === undefined || info?.namespace === workloadNamespace) &&
      (pod === undefined || (info?.namespace === pod.namespace && info.name === pod.name)),
  );
}

/** One table; with several nodes, each row says which. */
function joined(tables: readonly { readonly node: string; readonly table: Table }[], single: boolean): Table {
  const [first] = tables;
  if (first === undefined) return { columns: [], rows: [] };
  if (single) return first.table;
  const rows = tables.flatMap(({ node, table }) => withColumn("NODE", node, table).rows);
  return { columns: ["NODE", ...first.table.columns], rows };
}

function wide<T>({ output }: Pick<ShowFlags, "output">, extra: Extra<T>): Extra<T> | undefined {
  return output === "wide" ? extra : undefined;
}

function named<T extends object>({ single }: Collected, node: string, entries: readonly T[]): T[] {
  return single ? [...entries] : entries.map((entry) => ({ node, ...entry }));
}
