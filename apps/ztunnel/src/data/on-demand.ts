import type { GatewayAddress, MeshState, ServiceKey, Workload } from "@tulle/mesh";

/** Names asked for by one thread; the control plane never gets fewer of them, so more is a leak or an attack from a pod. */
export const MAX_ASKED = 100_000;

/**
 * On-demand discovery (XDS_ON_DEMAND, spec: l4-ztunnel §5.5): what this thread has asked the control plane for. An
 * address that was asked for and is not in the state does not exist; one that was not asked for is not known yet.
 */
export class OnDemand {
  readonly #request: (name: string) => void;
  readonly #asked = new Set<string>();
  readonly #answered = new Set<string>();

  /** `request`: asks the main thread, which answers by `answer`, after it has sent what was found. */
  constructor(request: (name: string) => void) {
    this.#request = request;
  }

  /** Asks for what was not asked for yet. True when all of these have been answered, one way or the other. */
  known(names: readonly string[]): boolean {
    let known = true;
    for (const name of names) {
      if (this.#answered.has(name)) continue;
      known = false;
      if (this.#asked.has(name) || this.#asked.size >= MAX_ASKED) continue;
      this.#asked.add(name);
      this.#request(name);
    }
    return known;
  }

  answer(name: string): void {
    this.#answered.add(name);
  }
}

/** What must be known to decide about a connection to this address: itself, and the waypoints on its way. */
export function namesForAddress(state: MeshState, network: string, ip: string, client: Workload): readonly string[] {
  const owner = state.addressOwner(network, ip, client.namespace);
  if (owner === undefined) return [`${network}/${ip}`];
  if (owner.kind === "workload") return waypointNames([owner.workload.waypoint]);
  const { waypoint, weightedWaypoints } = owner.service;
  return waypointNames([waypoint, ...weightedWaypoints.map(({ destination }) => destination)]);
}

/** The services of a pod that a CONNECT may name by this host. */
export function namesForHost(local: Workload, authority: string | undefined): readonly ServiceKey[] {
  const host = authority?.slice(0, Math.max(0, authority.lastIndexOf(":")));
  return [...local.services.keys()].filter((key) => key.slice(key.indexOf("/") + 1) === host);
}

function waypointNames(waypoints: readonly (GatewayAddress | undefined)[]): string[] {
  return waypoints.flatMap((waypoint) => {
    if (waypoint === undefined) return [];
    const { destination } = waypoint;
    if (destination.kind === "address") return [`${destination.network}/${destination.ip}`];
    return [`${destination.namespace}/${destination.hostname}`];
  });
}
