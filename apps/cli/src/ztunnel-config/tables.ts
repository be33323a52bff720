import type { Table } from "../ui/table.ts";
import type {
  CertificateDump,
  CertificateFactsDump,
  Dump,
  PolicyDump,
  ServiceDump,
  WaypointDump,
  WorkloadDump,
  WorkloadStateDump,
} from "./dump.ts";
import type { CertificateRow, ConnectionRow, Extra } from "./wide.ts";

/**
 * The tables of ztunnel-config, with istioctl's columns (spec: control-plane §8.2). Pure functions of what a dump holds.
 * `extra`: columns of -o wide.
 */

/** What is not there. */
const NONE = "None";
const UNKNOWN = "NA";
const ANY_WAYPOINT = /^([^/]*)\/(.*)$/;

export function workloadTable(
  workloads: readonly WorkloadDump[],
  services: readonly ServiceDump[],
  extra?: Extra<WorkloadDump>,
): Table {
  return {
    columns: ["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL", ...titles(extra)],
    rows: sortedWorkloads(workloads).map((workload) => [
      workload.namespace,
      workload.name,
      addressOf(workload),
      workload.node ?? "",
      waypointName(workload.waypoint, services),
      workload.protocol ?? "",
      ...cells(extra, workload),
    ]),
  };
}

export function serviceTable(
  services: readonly ServiceDump[],
  all: readonly ServiceDump[],
  extra?: Extra<ServiceDump>,
): Table {
  return {
    columns: ["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS", ...titles(extra)],
    rows: sortedServices(services).map((service) => {
      const endpoints = Object.values(service.endpoints ?? {});
      const healthy = endpoints.filter(({ status }) => status === undefined || status === "Healthy").length;
      return [
        service.namespace,
        service.name,
        (service.vips ?? []).map(withoutNetwork).join(","),
        waypointName(service.waypoint, all),
        `${healthy}/${endpoints.length}`,
        ...cells(extra, service),
      ];
    }),
  };
}

export function policyTable(policies: readonly PolicyDump[], extra?: Extra<PolicyDump>): Table {
  return {
    columns: ["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE", ...titles(extra)],
    rows: sortedPolicies(policies).map((policy) => [
      policy.namespace,
      policy.name,
      policy.action,
      policy.scope,
      ...cells(extra, policy),
    ]),
  };
}

/** `now`: milliseconds since the epoch. */
export function certificateTable(
  certificates: readonly CertificateDump[],
  now: number,
  extra?: Extra<CertificateRow>,
): Table {
  const row = (entry: CertificateDump, type: string, facts: CertificateFactsDump) => [
    entry.identity,
    type,
    stateOf(entry),
    String(Date.parse(facts.validFrom) <= now && now < Date.parse(facts.expirationTime)),
    hexadecimal(facts.serialNumber),
    facts.expirationTime,
    facts.validFrom,
    ...cells(extra, { entry, facts }),
  ];
  const none = (entry: CertificateDump) => [
    ...[entry.identity, UNKNOWN, stateOf(entry), "false", UNKNOWN, UNKNOWN, UNKNOWN],
    ...cells(extra, { entry, facts: undefined }),
  ];
  const columns = ["CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
  return {
    columns: [...columns, ...titles(extra)],
    rows: sortedCertificates(certificates).flatMap((entry) => {
      const chain = entry.certChain ?? [];
      if (chain.length === 0) return [none(entry)];
      return [
        ...chain.map((facts, index) => row(entry, index === 0 ? "Leaf" : "Intermediate", facts)),
        ...(entry.rootCerts ?? []).map((facts) => row(entry, "Root", facts)),
      ];
    }),
  };
}

/** `names`: addresses are shown by the workloads and services that have them; undefined shows them as they are. */
export function connectionTable(
  states: readonly WorkloadStateDump[],
  direction: "inbound" | "outbound" | undefined,
  names: AddressNames | undefined,
  extra?: Extra<ConnectionRow>,
): Table {
  const shown = (address: string) => (names === undefined ? address : names.name(address));
  const rows: string[][] = [];
  for (const state of sortedStates(states)) {
    const { info, connections } = state;
    const workload = info === undefined ? "" : `${info.name}.${info.namespace}`;
    const add = (title: string, local: string, remote: string, row: Omit<ConnectionRow, "state">) => {
      const { originalDst, protocol } = row.connection;
      const known = [workload, title, shown(local), shown(remote), shown(originalDst ?? ""), protocol];
      rows.push([...known, ...cells(extra, { state, ...row })]);
    };
    if (direction !== "outbound") {
      for (const each of connections?.inbound ?? []) {
        add("Inbound", each.actualDst, each.src, { connection: each, direction: "inbound" });
      }
    }
    if (direction !== "inbound") {
      for (const each of connections?.outbound ?? []) {
        add("Outbound", each.src, each.actualDst, { connection: each, direction: "outbound" });
      }
    }
  }
  const columns = ["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"];
  return { columns: [...columns, ...titles(extra)], rows };
}

function titles(extra: Extra<never> | undefined): readonly string[] {
  return extra?.titles ?? [];
}

function cells<T>(extra: Extra<T> | undefined, entry: T): readonly string[] {
  return extra?.cells(entry) ?? [];
}

/** Who has an address. */
export class AddressNames {
  readonly #names = new Map<string, string>();

  constructor({ workloads, services }: Pick<Dump, "workloads" | "services">) {
    for (const { hostname, vips } of services) {
      for (const vip of vips ?? []) this.#names.set(withoutNetwork(vip), hostname);
    }
    for (const { name, namespace, workloadIps } of workloads) {
      for (const ip of workloadIps ?? []) this.#names.set(ip, `${name}.${namespace}`);
    }
  }

  /** `10.0.0.1:80` or `[fd00::1]:80` with the name in place of the address; what is not known stays. */
  name(address: string): string {
    const [, ip, port] = /^(.*):(\d+)$/.exec(address) ?? [];
    if (ip === undefined) return this.#names.get(address) ?? address;
    const name = this.#names.get(ip.replace(/^\[(.*)\]$/, "$1"));
    return name === undefined ? address : `${name}:${port}`;
  }
}

export function sortedWorkloads(workloads: readonly WorkloadDump[]): WorkloadDump[] {
  return workloads.toSorted(by(({ namespace, name, node }) => [namespace, name, node ?? ""]));
}

export function sortedServices(services: readonly ServiceDump[]): ServiceDump[] {
  return services.toSorted(by(({ namespace, name, hostname }) => [namespace, name, hostname]));
}

export function sortedPolicies(policies: readonly PolicyDump[]): PolicyDump[] {
  return policies.toSorted(by(({ namespace, name }) => [namespace, name]));
}

export function sortedCertificates(certificates: readonly CertificateDump[]): CertificateDump[] {
  return certificates.toSorted(by(({ identity }) => [identity]));
}

export function sortedStates(states: readonly WorkloadStateDump[]): WorkloadStateDump[] {
  return states.toSorted(by(({ info }) => [info?.name ?? "", info?.namespace ?? ""]));
}

function by<T>(keys: (value: T) => readonly string[]): (a: T, b: T) => number {
  return (a, b) => {
    const [left, right] = [keys(a), keys(b)];
    const index = left.findIndex((key, i) => key !== right[i]);
    if (index < 0) return 0;
    return (left[index] ?? "") < (right[index] ?? "") ? -1 : 1;
  };
}

export function addressOf({ workloadIps, hostname }: WorkloadDump): string {
  return workloadIps !== undefined && workloadIps.length > 0 ? workloadIps.join(",") : (hostname ?? "");
}

function waypointName(waypoint: WaypointDump | undefined, services: readonly ServiceDump[]): string {
  if (waypoint === undefined) return NONE;
  const [, scope = "", name = ""] = ANY_WAYPOINT.exec(waypoint.destination) ?? [];
  const found = services.find(
    (service) =>
      (service.namespace === scope && service.hostname === name) ||
      service.vips?.includes(waypoint.destination) === true,
  );
  return found?.name ?? UNKNOWN;
}

function stateOf({ state }: CertificateDump): string {
  const text = typeof state === "string" ? state : JSON.stringify(state ?? UNKNOWN);
  return text.includes("Unavailable") ? "Unavailable" : text;
}

function withoutNetwork(vip: string): string {
  return vip.slice(vip.indexOf("/") + 1);
}

function hexadecimal(decimal: string): string {
  return /^\d{1,100}$/.test(decimal) ? BigInt(decimal).toString(16) : decimal;
}
