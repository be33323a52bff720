import { buildCommand, buildRouteMap } from "@stricli/core";
import { CLUSTER_ALIASES, lazily, MESH_FLAGS } from "../command.ts";
import type { CliContext } from "../context.ts";
import { OUTPUT_FLAG } from "../ui/format.ts";
import type { LogFlags } from "../ztunnel-config/log.ts";
import type {
  AllFlags,
  ConnectionFlags,
  PolicyFlags,
  ServiceFlags,
  ShowFlags,
  WorkloadFlags,
} from "../ztunnel-config/show.ts";
import { whole } from "./whole.ts";

const MAX_PORT = 65_535;
const text = (input: string) => input;
const optional = (brief: string, placeholder: string) =>
  ({ kind: "parsed", parse: text, brief, optional: true, placeholder }) as const;

const CHOICE = {
  ...MESH_FLAGS,
  node: optional("Ask the ztunnel of this node; default: all", "node"),
  namespace: optional("Namespace of the pod", "namespace"),
  proxyAdminPort: { kind: "parsed", parse: whole(1, MAX_PORT), brief: "Admin port of ztunnel", default: "15000" },
} as const;
const SOURCE = {
  ...CHOICE,
  file: optional("Read a dump (GET /config_dump) from a file; - is standard input", "file"),
  output: OUTPUT_FLAG,
} as const;
const CHOICE_ALIASES = { ...CLUSTER_ALIASES, n: "namespace" } as const;
const ALIASES = { ...CHOICE_ALIASES, f: "file", o: "output" } as const;
const POD = {
  kind: "tuple",
  parameters: [
    {
      brief: "A ztunnel's pod, or any pod: then what its ztunnel knows",
      parse: text,
      placeholder: "pod",
      optional: true,
    },
  ],
} as const;

const show = () => import("../ztunnel-config/show.ts");

const workload = buildCommand<WorkloadFlags, [string?], CliContext>({
  loader: lazily(async () => (await show()).showWorkloads),
  parameters: {
    positional: POD,
    flags: {
      ...SOURCE,
      workloadNamespace: optional("Only workloads of this namespace", "namespace"),
      workloadNode: optional("Only workloads on this node", "node"),
      address: optional("Only workloads with this address", "address"),
    },
    aliases: ALIASES,
  },
  docs: { brief: "Workloads that ztunnel knows" },
});

const service = buildCommand<ServiceFlags, [string?], CliContext>({
  loader: lazily(async () => (await show()).showServices),
  parameters: {
    positional: POD,
    flags: { ...SOURCE, serviceNamespace: optional("Only services of this namespace", "namespace") },
    aliases: ALIASES,
  },
  docs: { brief: "Services that ztunnel knows" },
});

const policy = buildCommand<PolicyFlags, [string?], CliContext>({
  loader: lazily(async () => (await show()).showPolicies),
  parameters: {
    positional: POD,
    flags: { ...SOURCE, policyNamespace: optional("Only policies of this namespace", "namespace") },
    aliases: ALIASES,
  },
  docs: { brief: "Policies that ztunnel enforces" },
});

const certificate = buildCommand<ShowFlags, [string?], CliContext>({
  loader: lazily(async () => (await show()).showCertificates),
  parameters: { positional: POD, flags: SOURCE, aliases: ALIASES },
  docs: { brief: "Certificates that ztunnel holds" },
});

const connections = buildCommand<ConnectionFlags, [string?], CliContext>({
  loader: lazily(async () => (await show()).showConnections),
  parameters: {
    positional: POD,
    flags: {
      ...SOURCE,
      direction: { kind: "enum", values: ["inbound", "outbound"], brief: "Only this direction", optional: true },
      workloadNamespace: optional("Only connections of workloads of this namespace", "namespace"),
      raw: { kind: "boolean", brief: "Addresses as they are, without names", default: false, withNegated: false },
    },
    aliases: ALIASES,
  },
  docs: { brief: "Connections that are open" },
});

const all = buildCommand<AllFlags, [string?], CliContext>({
  loader: lazily(async () => (await show()).showAll),
  parameters: {
    positional: POD,
    flags: {
      ...SOURCE,
      withHeaders: { kind: "boolean", brief: "A title above each table", default: false, withNegated: false },
    },
    aliases: ALIASES,
  },
  docs: { brief: "Everything of the above" },
});

const log = buildCommand<LogFlags, [string?], CliContext>({
  loader: lazily(async () => (await import("../ztunnel-config/log.ts")).showLog),
  parameters: {
    positional: POD,
    flags: {
      ...CHOICE,
      level: optional("New levels: [scope:]level,…", "level"),
      reset: { kind: "boolean", brief: "Back to the levels of the start", default: false, withNegated: false },
    },
    aliases: { ...CHOICE_ALIASES, r: "reset" },
  },
  docs: { brief: "Show or change what ztunnel logs" },
});

export const ztunnelConfigCommand = buildRouteMap({
  routes: { workload, service, policy, certificate, connections, log, all },
  aliases: {
    w: "workload",
    workloads: "workload",
    s: "service",
    svc: "service",
    services: "service",
    p: "policy",
    pol: "policy",
    policies: "policy",
    c: "certificate",
    cert: "certificate",
    certs: "certificate",
    certificates: "certificate",
    cons: "connections",
    o: "log",
  },
  docs: { brief: "What ztunnels know and do" },
});
