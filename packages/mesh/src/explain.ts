import {
  canonicalIp,
  type Cidr,
  formatIdentity,
  formatSocketAddress,
  isIpv6,
  parsePort,
  parseSocketAddress,
  type Random,
  type SocketAddress,
} from "@tulle/base";
import { applicablePolicies, authorize, type Verdict } from "./authorize.ts";
import { resolveDns } from "./dns.ts";
import { formatGateway } from "./gateway.ts";
import { type Service, serviceKey, type Workload, workloadIdentity } from "./model.ts";
import { type HboneRoute, type OutboundDecision, resolveOutbound } from "./outbound.ts";
import type { MeshState } from "./state.ts";

export interface ExplainQuery {
  /** A pod: `namespace/name`, its address, or its uid. */
  readonly source: string;
  /** `ip:port`, `[v6]:port` or `name:port`; a name is looked up as the source would. */
  readonly destination: string;
  readonly network: string;
  readonly clusterDomain: string;
  readonly meshCidrs: readonly Cidr[];
  readonly random: Random;
}

/** One thing that was looked at. `code` is stable, `text` is for people. */
export interface ExplainStep {
  readonly code:
    | "source"
    | "name"
    | "destination"
    | "waypoint"
    | "endpoint"
    | "route"
    | "policies"
    | "verdict"
    | "not-found";
  readonly text: string;
}

export interface Explanation {
  /**
   * `hbone`: encrypted, with identity; `plaintext`: to a known workload outside the mesh; `passthrough`: to somebody whom
   * the mesh does not know; `refused`: by the client's proxy; `denied`: by a policy at the destination; `unknown`: the
   * question could not be understood.
   */
  readonly outcome: "hbone" | "plaintext" | "passthrough" | "refused" | "denied" | "unknown";
  readonly steps: readonly ExplainStep[];
  /** `namespace/host` or `network/ip` of the waypoint on the way. */
  readonly waypoint: string | undefined;
  /** The policy that denied; undefined with outcome `denied`: no ALLOW policy let it pass. */
  readonly policy: string | undefined;
}

/** Policies that are named in a step; the rest is counted. */
const MAX_POLICIES_SHOWN = 20;

/** Why would this connection go plain, encrypted, through which waypoint, or be denied, and by what? As things are now. */
export function explain(state: MeshState, query: ExplainQuery): Explanation {
  const steps: ExplainStep[] = [];
  const say = (code: ExplainStep["code"], text: string) => steps.push({ code, text });
  const end = (outcome: Explanation["outcome"], waypoint?: string, policy?: string): Explanation => {
    return { outcome, steps, waypoint, policy };
  };
  const source = findWorkload(state, query.source, query.network);
  if (source === undefined) {
    say("not-found", `no workload is known as "${query.source}" (say namespace/name, an address or a uid)`);
    return end("unknown");
  }
  say("source", `${describe(source)} is ${formatIdentity(workloadIdentity(source))}`);
  if (source.protocol !== "HBONE") say("source", `${source.name} is not in the mesh: its own proxy does not see this`);
  const destination = findDestination(state, query, source, say);
  if (destination === undefined) return end("unknown");
  const decision = resolveOutbound(state, {
    source,
    destination,
    network: query.network,
    meshCidrs: query.meshCidrs,
    random: query.random,
  });
  describeOwner(state, query, source, destination, say);
  return follow(state, decision, source, destination, say, end);
}

type Say = (code: ExplainStep["code"], text: string) => void;
type End = (outcome: Explanation["outcome"], waypoint?: string, policy?: string) => Explanation;

function follow(
  state: MeshState,
  decision: OutboundDecision,
  source: Workload,
  destination: SocketAddress,
  say: Say,
  end: End,
): Explanation {
  switch (decision.kind) {
    case "refuse":
      say("route", `refused: ${decision.message}`);
      return end("refused");
    case "wait":
      say("route", `waits for up to five seconds, then refused: ${decision.refusal.message}`);
      return end("refused");
    case "passthrough":
      say("route", `straight to ${formatSocketAddress(decision.connect)}, unencrypted, whoever that is`);
      return end("passthrough");
    case "dns":
      say("endpoint", `${describe(decision.workload)} has no address: "${decision.hostname}" is looked up`);
      return end(decision.workload.protocol === "HBONE" ? "hbone" : "plaintext");
    case "tcp": {
      say("endpoint", `${describe(decision.workload)} is not in the mesh`);
      say("route", `unencrypted to ${formatSocketAddress(decision.connect)}`);
      return end("plaintext");
    }
    case "hbone":
      return throughTunnel(state, decision, source, destination, say, end);
    default:
      return decision satisfies never;
  }
}

function throughTunnel(
  state: MeshState,
  route: HboneRoute,
  source: Workload,
  destination: SocketAddress,
  say: Say,
  end: End,
): Explanation {
  const via = route.viaWaypoint && formatGateway(route.viaWaypoint.destination);
  if (via === undefined) say("endpoint", `${describe(route.workload)} is in the mesh`);
  else say("waypoint", `traffic for it goes through waypoint ${via}, now at ${describe(route.workload)}`);
  const peers = route.identities.join(" or ");
  say("route", `encrypted to ${formatSocketAddress(route.connect)} for ${route.authority}; the peer must be ${peers}`);
  if (via !== undefined) {
    say("verdict", `what happens then to ${formatSocketAddress(destination)} is the waypoint's to decide`);
    return end("hbone", via);
  }
  const target = parseSocketAddress(route.authority) ?? route.connect;
  describePolicies(state, route.workload, say);
  const verdict = authorize(state, {
    identity: workloadIdentity(source),
    source: { ip: source.addresses.find((ip) => isIpv6(ip) === isIpv6(target.ip)) ?? target.ip, port: 0 },
    destination: target,
    local: route.workload,
  });
  describeVerdict(verdict, say);
  if (verdict.kind === "allowed") return end("hbone");
  return end("denied", undefined, verdict.kind === "wait" ? verdict.missing[0] : verdict.policy);
}

function describePolicies(state: MeshState, workload: Workload, say: Say): void {
  const { present, missing } = applicablePolicies(state, workload);
  if (present.length === 0 && missing.length === 0) return say("policies", "no policy holds for it");
  const shown = present.slice(0, MAX_POLICIES_SHOWN).map((policy) => {
    return `${policy.action.toUpperCase()} ${policy.key}${policy.dryRun ? " (dry run)" : ""}`;
  });
  const more = present.length > shown.length ? ` and ${present.length - shown.length} more` : "";
  say("policies", `policies that hold for it: ${shown.join(", ")}${more}`);
  if (missing.length > 0) say("policies", `named by it but unknown: ${missing.join(", ")}`);
}

function describeVerdict(verdict: Verdict, say: Say): void {
  for (const { policy, action } of verdict.dryRun)
    say("verdict", `dry run: ${policy} would ${action.toLowerCase()} it`);
  switch (verdict.kind) {
    case "allowed":
      return say(
        "verdict",
        verdict.policy === undefined ? "allowed: nothing restricts it" : `allowed by ${verdict.policy}`,
      );
    case "denied":
      return say("verdict", `denied: ${verdict.reason}`);
    case "wait":
      return say("verdict", `waits for up to five seconds, then denied: ${verdict.reason}`);
    default:
      return verdict satisfies never;
  }
}

function describeOwner(
  state: MeshState,
  query: ExplainQuery,
  source: Workload,
  destination: SocketAddress,
  say: Say,
): void {
  const owner = state.addressOwner(query.network, destination.ip, source.namespace);
  if (owner?.kind === "workload") return say("destination", `${destination.ip} is ${describe(owner.workload)}`);
  if (owner?.kind === "service")
    return say("destination", `${destination.ip} is ${describeService(state, owner.service)}`);
  if (state.isHostAddress(query.network, destination.ip)) return say("destination", `${destination.ip} is a node`);
  say("destination", `no workload or service is known at ${destination.ip}`);
}

function describeService(state: MeshState, service: Service): string {
  const key = serviceKey(service);
  const all = state.members(key).size;
  const usable = state.endpoints(service, key).workloads.length;
  return `service ${key} (${usable} of ${all} endpoints can be used)`;
}

function describe(workload: Workload): string {
  return `${workload.namespace}/${workload.name}`;
}

function findWorkload(state: MeshState, text: string, network: string): Workload | undefined {
  const ip = canonicalIp(text);
  if (ip !== undefined) return state.workloadByIp(network, ip);
  const byUid = state.workload(text);
  if (byUid !== undefined) return byUid;
  let best: Workload | undefined;
  for (const workload of state.allWorkloads()) {
    if (describe(workload) === text && (best === undefined || workload.uid < best.uid)) best = workload;
  }
  return best;
}

function findDestination(state: MeshState, query: ExplainQuery, client: Workload, say: Say): SocketAddress | undefined {
  const address = parseSocketAddress(query.destination);
  if (address !== undefined) return address;
  const colon = query.destination.lastIndexOf(":");
  const port = colon < 0 ? undefined : parsePort(query.destination.slice(colon + 1));
  if (port === undefined) {
    say("not-found", `"${query.destination}" is no destination (say ip:port or name:port)`);
    return undefined;
  }
  const name = query.destination.slice(0, colon);
  const { network, clusterDomain, random } = query;
  for (const family of ["IPv4", "IPv6"] as const) {
    const found = resolveDns(state, { client, name, family, network, clusterDomain, ipv6Enabled: true, random });
    if (found.kind === "forward") break;
    const ip = found.kind === "answer" ? found.addresses[0] : undefined;
    if (ip === undefined) continue;
    say("name", `"${name}" is ${ip}`);
    return { ip, port };
  }
  say("not-found", `the mesh has no address for "${name}"`);
  return undefined;
}
