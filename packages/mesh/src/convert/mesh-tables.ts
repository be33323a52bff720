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
      const home = key.slice(0, key.indexOf("/"));
      if (home !== namespace && this.isDiscovered(home)) foreign.push(key);
    }
    return foreign.sort()[0];
  };

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
