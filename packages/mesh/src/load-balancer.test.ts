import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seededRandom } from "@tulle/base";
import * as fc from "fast-check";
import { newService, newWorkload } from "./defaults.ts";
import { EndpointPool, pickWeighted } from "./endpoints.ts";
import { failoverRank, pickEndpoint } from "./load-balancer.ts";
import type { LoadBalancer, RoutingScope, Workload } from "./model.ts";
import { MeshState } from "./state.ts";

const KEY = "ns/web";
const SOURCE = newWorkload({
  uid: "source",
  name: "source",
  namespace: "ns",
  node: "n1",
  locality: { region: "r1", zone: "z1", subzone: "s1" },
});

function endpoint(name: string, fields: Partial<Workload> = {}): Workload {
  const services = new Map([[KEY, new Map([[80, 8080]])]]);
  return newWorkload({ uid: name, name, namespace: "ns", addresses: ["10.0.0.1"], services, ...fields });
}

function placed(name: string, region: string, zone = "", subzone = "", node = ""): Workload {
  return endpoint(name, { locality: { region, zone, subzone }, node });
}

/** How often each endpoint was picked of `draws` times. */
function picks(
  workloads: readonly Workload[],
  loadBalancer: Partial<LoadBalancer>,
  draws = 400,
  exclude: ReadonlySet<string> = new Set(),
): Record<string, number> {
  const state = new MeshState();
  for (const workload of workloads) state.apply({ kind: "workload", workload });
  const service = newService({
    name: "web",
    namespace: "ns",
    hostname: "web",
    ports: new Map([[80, 8080]]),
    loadBalancer: { routingPreferences: [], mode: "Standard", healthPolicy: "OnlyHealthy", ...loadBalancer },
  });
  state.apply({ kind: "service", service });
  const random = seededRandom(3);
  const counts: Record<string, number> = {};
  for (let i = 0; i < draws; i++) {
    const picked = pickEndpoint(state, { source: SOURCE, service, port: 80, mode: "standard", random, exclude });
    const name = picked?.workload.name ?? "none";
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

const names = (counts: Record<string, number>) => Object.keys(counts).sort().join(" ");

describe("load balancing", () => {
  it("shares equally, or by weight", () => {
    const equal = picks([endpoint("a"), endpoint("b")], {});
    assert.ok((equal["a"] ?? 0) > 150 && (equal["b"] ?? 0) > 150, JSON.stringify(equal));
    const weighted = picks([endpoint("a", { capacity: 9 }), endpoint("b", { capacity: 1 })], {});
    assert.ok((weighted["a"] ?? 0) > 330 && (weighted["b"] ?? 0) > 10, JSON.stringify(weighted));
  });

  it("never picks an endpoint of no weight, not even the only one", () => {
    assert.equal(names(picks([endpoint("a", { capacity: 0 }), endpoint("b")], {})), "b");
    assert.equal(names(picks([endpoint("a", { capacity: 0 })], {})), "none");
    assert.equal(
      names(picks([endpoint("a", { capacity: 0 })], { mode: "Failover", routingPreferences: ["Region"] })),
      "none",
    );
  });

  it("finds the one usable endpoint among many", () => {
    const unreachable = Array.from({ length: 500 }, (_, i) => endpoint(`x${i}`, { addresses: [] }));
    assert.equal(names(picks([...unreachable, endpoint("a")], {}, 5)), "a");
    assert.equal(names(picks(unreachable, {}, 5)), "none");
  });

  it("leaves out unhealthy endpoints, unless all are wanted", () => {
    const workloads = [endpoint("a", { healthy: false }), endpoint("b")];
    assert.equal(names(picks(workloads, {})), "b");
    assert.equal(names(picks(workloads, { healthPolicy: "AllowAll" })), "a b");
  });

  it("takes those that match every scope when strict", () => {
    const workloads = [placed("here", "r1", "z1"), placed("zone", "r1", "z2"), placed("away", "r2", "z1")];
    const strict = (...routingPreferences: RoutingScope[]) =>
      names(picks(workloads, { mode: "Strict", routingPreferences }));
    assert.equal(strict("Region", "Zone"), "here");
    assert.equal(strict("Region"), "here zone");
    assert.equal(strict("Node"), "none");
    assert.equal(strict(), "away here zone");
  });

  it("takes those that match the most scopes in order when failing over", () => {
    const prefer: RoutingScope[] = ["Region", "Zone", "Subzone", "Node"];
    const failover = (...workloads: Workload[]) =>
      names(picks(workloads, { mode: "Failover", routingPreferences: prefer }));
    const node = placed("node", "r1", "z1", "s1", "n1");
    const subzone = placed("subzone", "r1", "z1", "s1", "n2");
    const zone = placed("zone", "r1", "z1", "s2", "n1");
    const region = placed("region", "r1", "z2", "s1", "n1");
    const away = placed("away", "r2", "z1", "s1", "n1");
    assert.equal(failover(away, region, zone, subzone, node), "node");
    assert.equal(failover(away, region, zone, subzone), "subzone");
    assert.equal(failover(away, region, zone), "zone");
    assert.equal(failover(away, region), "region");
    assert.equal(failover(away), "away");
    assert.equal(
      names(picks([node, zone], { mode: "Failover", routingPreferences: prefer }, 5, new Set(["node"]))),
      "zone",
    );
  });

  it("puts the own network before everything else, and still orders the others", () => {
    const scopes: RoutingScope[] = ["Network", "Region", "Zone"];
    const remote = (region: string, zone: string) => ({ ...placed("x", region, zone), network: "net2" });
    const ranks = [
      placed("x", "r1", "z1"),
      placed("x", "r1", "z2"),
      placed("x", "r2", "z1"),
      remote("r1", "z1"),
      remote("r1", "z2"),
      remote("r2", "z1"),
    ].map((workload) => failoverRank(scopes, SOURCE, workload));
    assert.deepEqual(ranks, [5, 4, 3, 2, 1, 0]);
    assert.deepEqual(failoverRank(["Network"], SOURCE, remote("r1", "z1")), 0);
    assert.ok(failoverRank(["Network"], SOURCE, placed("x", "r2")) > 0);
  });

  it("maps ports: the endpoint's own, then the service's, then, with a tunnel, the same", () => {
    const state = new MeshState();
    const port = (
      servicePorts: [number, number][],
      own: [number, number][],
      mode: "standard" | "waypoint",
      tunnel = false,
    ) => {
      const service = newService({ name: "web", namespace: "ns", hostname: "web", ports: new Map(servicePorts) });
      const applicationTunnel = tunnel ? ({ protocol: "PROXY", port: 15088 } as const) : undefined;
      state.apply({ kind: "service", service });
      const services = new Map([[KEY, new Map(own)]]);
      state.apply({ kind: "workload", workload: endpoint("a", { services, applicationTunnel }) });
      return pickEndpoint(state, { source: SOURCE, service, port: 80, mode, random: () => 0 })?.port;
    };
    assert.equal(port([[80, 8080]], [[80, 9090]], "standard"), 9090);
    assert.equal(port([[80, 8080]], [], "standard"), 8080);
    assert.equal(port([[80, 0]], [], "standard"), undefined);
    assert.equal(port([[80, 0]], [[80, 9090]], "standard"), 9090);
    assert.equal(port([], [[80, 9090]], "standard"), undefined);
    assert.equal(port([], [[80, 9090]], "waypoint"), 9090);
    assert.equal(port([], [], "waypoint"), undefined);
    assert.equal(port([], [], "waypoint", true), 80);
  });
});

describe("weighted choice", () => {
  it("never picks what has no weight or is not accepted, and picks something whenever it can", () => {
    const items = fc.array(fc.record({ weight: fc.nat(3), accepted: fc.boolean() }), { maxLength: 30 });
    fc.assert(
      fc.property(items, fc.integer(), (specs, seed) => {
        const random = seededRandom(seed);
        const workloads = specs.map(({ weight }, i) => endpoint(String(i), { capacity: weight }));
        const pool = new EndpointPool(newService({ name: "s", namespace: "ns", hostname: "s" }), KEY, workloads);
        const accepts = (workload: Workload) => specs[Number(workload.name)]?.accepted ?? false;
        const possible = specs.some(({ weight, accepted }) => weight > 0 && accepted);
        const picked = pool.pick(random, accepts);
        assert.equal(picked !== undefined, possible);
        if (picked !== undefined) assert.ok(accepts(picked) && picked.capacity > 0);
        const weighted = pickWeighted(specs, (spec) => spec.weight, random);
        assert.equal(
          weighted !== undefined,
          specs.some(({ weight }) => weight > 0),
        );
        assert.notEqual(weighted?.weight, 0);
      }),
      { numRuns: 300 },
    );
  });
});
