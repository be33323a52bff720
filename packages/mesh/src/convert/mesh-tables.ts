import type { GatewayAddress } from "../model.ts";
import type { MeshSettings } from "./context.ts";
import { EntryRegistry } from "./entry-registry.ts";
import { isDiscovered } from "./label-selector.ts";
import { MeshIndices } from "./mesh-indices.ts";
import { MeshObjects } from "./mesh-objects.ts";
import { networkOf } from "./network-gateway.ts";
import { PolicyRegistry } from "./policy-registry.ts";
import type { Waypoint, WaypointLookup } from "./waypoint.ts";
import type { WorkloadContext } from "./workload-context.ts";

/** Everything that conversions look up. */
export class MeshTables {
  readonly objects = new MeshObjects();
  readonly indices = new MeshIndices();
  /** By `namespace/name` of the Gateway. */
  readonly waypoints = new Map<string, Waypoint>();
  settings: MeshSettings;
  network = "";
  policies: PolicyRegistry;
  entries = new EntryRegistry();
  networkGateways: ReadonlyMap<string, GatewayAddress> = new Map();

  constructor(settings: MeshSettings) {
    this.settings = settings;
    this.policies = new PolicyRegistry(settings);
  }

  /** What the system namespace's label says, else the configuration. */
  currentNetwork(): string {
    const system = this.objects.get("Namespace", `/${this.settings.systemNamespace}`);
    return (system && networkOf(system)) ?? this.settings.network;
  }

  isDiscovered(namespace: string): boolean {
    if (this.settings.discoverySelectors.length === 0) return true;
    return isDiscovered(namespace, this.objects.get("Namespace", `/${namespace}`), this.settings);
  }

  /** `namespace/name` of a pod of another namespace that has the address for itself. */
  readonly foreignPod = (ip: string, namespace: string): string | undefined => {
    const foreign: string[] = [];
    for (const key of this.indices.podsByIp.get(ip)) {
      const home = homeOf(key);
      if (home !== namespace && this.isDiscovered(home)) foreign.push(key);
    }
    return foreign.sort()[0];
  };

  /** The same for ServiceEntries: pods of the host's network and of namespaces that are not discovered count, too. */
  readonly podAt = (ip: string, namespace: string): string | undefined => {
    const { podsByIp, hostPodsByIp } = this.indices;
    const foreign = [...podsByIp.get(ip), ...hostPodsByIp.get(ip)].filter((key) => homeOf(key) !== namespace);
    return foreign.sort()[0];
  };

  /** Every address of a pod, with the namespace of each that has it. */
  *heldByPods(): Iterable<readonly [ip: string, namespaces: Iterable<string>]> {
    for (const index of [this.indices.podsByIp, this.indices.hostPodsByIp]) {
      for (const [ip, keys] of index.entries()) yield [ip, Iterator.from(keys).map(homeOf)];
    }
  }

  /** For objects of a namespace. `waypoints` may watch what is looked up. */
  contextOf(namespace: string, waypoints: WaypointLookup): WorkloadContext {
    return {
      settings: this.settings,
      network: this.network,
      namespace: this.objects.get("Namespace", `/${namespace}`),
      waypoints,
      networkGateway: (network) => this.networkGateways.get(network),
      policies: (labels) => this.policies.attached(namespace, labels),
      foreignPod: (ip) => this.foreignPod(ip, namespace),
    };
  }
}

function homeOf(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
