import { type Cidr, parseCidr } from "@tulle/base";
import type { DnsAnswer, MeshState } from "@tulle/mesh";
import type { Namespace, Reactor } from "@tulle/reactor";
import type { DataTelemetry } from "@tulle/telemetry";
import type { DataSettings } from "../protocol.ts";
import type { ConnectionTable } from "./borrowed-ports.ts";
import type { IdentityStore } from "./identity-store.ts";
import type { OnDemand } from "./on-demand.ts";
import type { Waiters } from "./waiters.ts";

/** What every part of one data thread shares. */
export interface ThreadContext {
  readonly reactor: Reactor;
  readonly settings: DataSettings;
  readonly state: MeshState;
  readonly identities: IdentityStore;
  readonly waiters: Waiters;
  readonly telemetry: DataTelemetry;
  /** Shared counters of all pods (see PodBudget). */
  readonly podCounters: Int32Array;
  readonly meshCidrs: readonly Cidr[];
  /** Undefined: everything is known (wildcard). */
  readonly onDemand: OnDemand | undefined;
  /** What connections there are in a namespace. Throws SystemError. Undefined: it cannot be asked (simulation). */
  readonly openConnections: ((namespace: Namespace) => ConnectionTable) | undefined;
  /** Looks up the hostname of a workload without addresses, with our own resolver (spec: l4-ztunnel §3.1). */
  lookup(hostname: string, family: "IPv4" | "IPv6" | "any", done: (answer: DnsAnswer) => void): void;
}

/** The configuration has been checked by the main thread; what does not parse is left out. */
export function parseCidrs(texts: readonly string[]): Cidr[] {
  return texts.map(parseCidr).filter((cidr) => cidr !== undefined);
}
