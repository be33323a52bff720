import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cidrContains, parseCidr } from "@tulle/base";
import * as fc from "fast-check";
import { change, ip, network } from "../test/arbitraries.ts";
import { newPolicy, newService, newWorkload, type WorkloadFields } from "./defaults.ts";
import { type MeshChange, policyKey, type Service, serviceKey, type Workload } from "./model.ts";
import type { PolicyScope } from "./policy-index.ts";
import { bestService, isVisible } from "./service-index.ts";
import { MeshState } from "./state.ts";

const KEY = "ns/web.ns.svc";

describe("the state of the mesh", () => {
  it("answers as a look at everything would, whatever came before", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 25 }), network, ip, (changes, net, address) => {
        const state = new MeshState();
        const all = new Naive();
        for (const one of changes) {
          state.apply(one);
          all.apply(one);
        }
        assert.deepEqual(state.size, {
          workloads: all.workloads.size,
          services: all.services.size,
          policies: all.policies.size,
        });
        assert.equal(state.workloadByIp(net, address)?.uid, all.byIp(net, address)?.uid);
        assert.equal(state.isHostAddress(net, address), all.isHost(net, address));
        for (const namespace of ["a", "b"]) {
          const found = state.serviceByVip(net, address, namespace);
          assert.ok(all.vipCandidates(net, address, namespace).includes(found));
          for (const hostname of ["web", "db"]) {
            const key = `${namespace}/${hostname}`;
            assert.deepEqual(new Set(state.members(key).keys()), all.members(key));
            const service = state.service(key);
            assert.equal(service, all.services.get(key));
            if (service === undefined) continue;
            const uids = state.endpoints(service, key).workloads.map((workload) => workload.uid);
            assert.deepEqual(new Set(uids), all.endpoints(service));
          }
        }
        assert.deepEqual(new Set(state.stagedServices()), all.staged());
      }),
      { numRuns: 500 },
    );
  });

  it("knows a workload only once it was told", () => {
    const state = new MeshState();
    let looked = 0;
    const stop = state.observe({ onChanged: () => looked++ });
    assert.equal(state.localWorkload({ namespace: "ns", name: "p", serviceAccount: "default" }, ""), undefined);
    state.apply(put({ uid: "u", name: "p" }));
    assert.equal(state.localWorkload({ namespace: "ns", name: "p", serviceAccount: "default" }, "")?.uid, "u");
    stop();
    state.apply(put({ uid: "v", name: "q" }));
    assert.equal(looked, 1);
  });

  it("finds a pod by name on its node, or on any if none is given", () => {
    const state = filled(put({ uid: "b", name: "p", node: "n2" }), put({ uid: "a", name: "p", node: "n1" }));
    const key = { namespace: "ns", name: "p", serviceAccount: "default" };
    assert.equal(state.localWorkload(key, "n2")?.uid, "b");
    assert.equal(state.localWorkload(key, "")?.uid, "a");
    assert.equal(state.localWorkload(key, "n3"), undefined);
    assert.equal(state.localWorkload({ ...key, serviceAccount: "other" }, ""), undefined);
  });

  it("is synced when it is told so, and not before", () => {
    const state = new MeshState();
    assert.equal(state.synced, false);
    state.apply({ kind: "synced" });
    assert.equal(state.synced, true);
  });

  it("keeps host-network workloads out of the addresses", () => {
    const state = filled(put({ uid: "h", addresses: ["10.0.0.1"], hostNetwork: true, services: member() }));
    assert.equal(state.workloadByIp("", "10.0.0.1"), undefined);
    assert.ok(state.isHostAddress("", "10.0.0.1"));
    assert.ok(state.isMember(KEY, "h"));
    state.apply(put({ uid: "h2", addresses: ["10.0.0.1"], hostNetwork: true }));
    state.apply({ kind: "remove-workload", uid: "h" });
    assert.ok(state.isHostAddress("", "10.0.0.1"));
    state.apply({ kind: "remove-workload", uid: "h2" });
    assert.equal(state.isHostAddress("", "10.0.0.1"), false);
  });

  it("prefers pods, then HBONE, where addresses overlap", () => {
    const addresses = ["10.0.0.1"];
    const entry = put({ uid: "a/networking.istio.io/WorkloadEntry/ns/a", addresses });
    const entryHbone = put({ uid: "b/networking.istio.io/WorkloadEntry/ns/b", addresses, protocol: "HBONE" });
    const pod = put({ uid: "c//Pod/ns/c", addresses });
    for (const changes of [
      [entry, entryHbone, pod],
      [pod, entryHbone, entry],
    ]) {
      const state = filled(...changes);
      const owner = () => state.workloadByIp("", "10.0.0.1")?.uid;
      assert.equal(owner(), "c//Pod/ns/c");
      state.apply({ kind: "remove-workload", uid: "c//Pod/ns/c" });
      assert.equal(owner(), "b/networking.istio.io/WorkloadEntry/ns/b");
      state.apply({ kind: "remove-workload", uid: "b/networking.istio.io/WorkloadEntry/ns/b" });
      assert.equal(owner(), "a/networking.istio.io/WorkloadEntry/ns/a");
    }
  });
});

describe("endpoints", () => {
  const healthyOnly = newService({ name: "web", namespace: "ns", hostname: "web.ns.svc" });
  const everybody: Service = {
    ...healthyOnly,
    loadBalancer: { routingPreferences: [], mode: "Standard", healthPolicy: "AllowAll" },
  };
  const uids = (state: MeshState) => {
    const service = state.service(KEY);
    return service === undefined ? undefined : state.endpoints(service, KEY).workloads.map(({ uid }) => uid);
  };

  it("may come before their service", () => {
    const state = filled(put({ uid: "u", services: member() }));
    assert.equal(uids(state), undefined);
    assert.deepEqual([...state.stagedServices()], [KEY]);
    state.apply({ kind: "service", service: healthyOnly });
    assert.deepEqual(uids(state), ["u"]);
    assert.deepEqual([...state.stagedServices()], []);
  });

  it("leave with their workload, staged ones too", () => {
    const state = filled(put({ uid: "u", services: member() }), { kind: "remove-workload", uid: "u" });
    assert.deepEqual([...state.stagedServices()], []);
    state.apply({ kind: "service", service: healthyOnly });
    assert.deepEqual(uids(state), []);
  });

  it("leave when the workload no longer belongs to the service", () => {
    const state = filled({ kind: "service", service: healthyOnly }, put({ uid: "u", services: member() }));
    assert.deepEqual(uids(state), ["u"]);
    state.apply(put({ uid: "u" }));
    assert.deepEqual(uids(state), []);
  });

  it("are healthy, unless the service takes all", () => {
    for (const order of [0, 1]) {
      const changes: MeshChange[] = [
        { kind: "service", service: healthyOnly },
        put({ uid: "sick", healthy: false, services: member() }),
        put({ uid: "well", services: member() }),
      ];
      const state = filled(...(order === 0 ? changes : changes.toReversed()));
      assert.deepEqual(uids(state), ["well"]);
      state.apply({ kind: "service", service: everybody });
      assert.deepEqual(new Set(uids(state)), new Set(["sick", "well"]));
      state.apply({ kind: "service", service: healthyOnly });
      assert.deepEqual(uids(state), ["well"]);
      state.apply(put({ uid: "sick", services: member() }));
      assert.deepEqual(new Set(uids(state)), new Set(["sick", "well"]));
    }
  });

  it("return with a service that was away, for the workloads still say that they belong to it", () => {
    const state = filled({ kind: "service", service: healthyOnly }, put({ uid: "u", services: member() }));
    state.apply({ kind: "remove-service", key: KEY });
    assert.equal(uids(state), undefined);
    state.apply({ kind: "service", service: healthyOnly });
    assert.deepEqual(uids(state), ["u"]);
  });
});

describe("services with one address", () => {
  const vips = [{ network: "", ip: "10.9.0.1" }];
  const at = (namespace: string, fields: Partial<Service> = {}) =>
    newService({ name: "s", namespace, hostname: `${namespace}.example`, vips, ...fields });
  const canonical = { canonical: true };
  const hidden = { visibility: "Namespace" as const };

  const cases: readonly (readonly [name: string, services: Service[], expected: string | undefined])[] = [
    ["the client's own", [at("a", canonical), at("client"), at("b")], "client"],
    ["the client's own, seen only there", [at("a"), at("client", hidden)], "client"],
    ["the canonical one", [at("a"), at("b", canonical), at("c")], "b"],
    ["the later of two canonical ones", [at("a", canonical), at("b", canonical)], "b"],
    ["the first otherwise", [at("b"), at("a")], "b"],
    ["none that is seen elsewhere only", [at("a", hidden)], undefined],
    ["the seen one", [at("a", hidden), at("b")], "b"],
    ["none in another network", [at("a", { vips: [{ network: "n", ip: "10.9.0.1" }] })], undefined],
  ];
  for (const [name, services, expected] of cases) {
    it(`mean ${name}`, () => {
      const state = filled(...services.map((service) => ({ kind: "service" as const, service })));
      assert.equal(state.serviceByVip("", "10.9.0.1", "client")?.namespace, expected);
    });
  }

  it("keep their order when one is updated, and give way when one goes", () => {
    const state = filled({ kind: "service", service: at("b") }, { kind: "service", service: at("a") });
    state.apply({ kind: "service", service: at("b", { ports: new Map([[1, 1]]) }) });
    assert.equal(state.serviceByVip("", "10.9.0.1", "client")?.namespace, "b");
    state.apply({ kind: "remove-service", key: "b/b.example" });
    assert.equal(state.serviceByVip("", "10.9.0.1", "client")?.namespace, "a");
    state.apply({ kind: "service", service: at("a", { vips: [] }) });
    assert.equal(state.serviceByVip("", "10.9.0.1", "client"), undefined);
  });

  it("mean the preferred namespace's in DNS, unless there is a better one", () => {
    const services = [at("a"), at("b"), at("pref")];
    assert.equal(bestService(services, "client", "pref")?.namespace, "pref");
    assert.equal(bestService([...services, at("c", canonical)], "client", "pref")?.namespace, "c");
    assert.equal(bestService([...services, at("client")], "client", "pref")?.namespace, "client");
  });

  const range = (namespace: string, text: string, fields: Partial<Service> = {}) => {
    const cidr = parseCidr(text);
    assert.ok(cidr);
    return at(namespace, { vips: [], cidrVips: [{ network: "", cidr }], ...fields });
  };
  const ranges: readonly (readonly [name: string, services: Service[], expected: string | undefined, ip?: string])[] = [
    ["the longest range", [range("a", "10.0.0.0/8"), range("b", "10.9.0.0/16")], "b"],
    ["an exact address before any range", [range("a", "10.9.0.1/32"), at("b")], "b"],
    ["a range if the exact one is not seen", [range("a", "10.0.0.0/8"), at("b", hidden)], "a"],
    ["the client's own range, even if shorter", [range("client", "10.0.0.0/8"), range("b", "10.9.0.0/16")], "client"],
    ["the canonical of equal ranges", [range("a", "10.0.0.0/8"), range("b", "10.0.0.0/8", canonical)], "b"],
    ["the first of equals", [range("b", "10.0.0.0/8"), range("a", "10.0.0.0/8")], "b"],
    ["no range of the other family", [range("a", "::/0")], undefined],
    ["the longest v6 range", [range("a", "fd00::/8"), range("b", "fd00:1::/32")], "b", "fd00:1::5"],
    ["no v4 range for v6", [range("a", "0.0.0.0/0")], undefined, "fd00::1"],
    ["everything", [range("a", "0.0.0.0/0")], "a"],
  ];
  for (const [name, services, expected, address = "10.9.0.1"] of ranges) {
    it(`in ranges mean ${name}`, () => {
      const state = filled(...services.map((service) => ({ kind: "service" as const, service })));
      assert.equal(state.serviceByVip("", address, "client")?.namespace, expected);
    });
  }
});

describe("observers are told", () => {
  const moves = (...changes: MeshChange[]) => {
    const state = new MeshState();
    const seen: string[] = [];
    state.observe({ onAddressMoved: (net, address, from, to) => seen.push(`${net}/${address} ${from} ${to}`) });
    for (const one of changes) state.apply(one);
    return seen;
  };
  const addresses = ["10.0.0.1"];

  it("that an address went to another workload, at once or after a while", () => {
    const first = put({ uid: "a//Pod/1", addresses });
    const second = put({ uid: "b//Pod/2", addresses });
    const gone: MeshChange = { kind: "remove-workload", uid: "a//Pod/1" };
    assert.deepEqual(moves(first, gone, second), ["/10.0.0.1 a//Pod/1 b//Pod/2"]);
    assert.deepEqual(moves(first, second, gone), ["/10.0.0.1 a//Pod/1 b//Pod/2"]);
    assert.deepEqual(moves(first, put({ uid: "a//Pod/1" }), second), ["/10.0.0.1 a//Pod/1 b//Pod/2"]);
  });

  it("of no move when the same workload comes back, changes, or another network has the address", () => {
    const first = put({ uid: "a", addresses });
    assert.deepEqual(moves(first, { kind: "remove-workload", uid: "a" }, first), []);
    assert.deepEqual(moves(first, put({ uid: "a", addresses, node: "n" })), []);
    assert.deepEqual(moves(first, put({ uid: "b", addresses, network: "net2" })), []);
    assert.deepEqual(moves(first, put({ uid: "b", addresses, hostNetwork: true })), []);
  });

  it("whose connections to judge again", () => {
    const state = new MeshState();
    const seen: PolicyScope[] = [];
    state.observe({ onPoliciesChanged: (scope) => seen.push(scope) });
    const scopes = (one: MeshChange) => {
      seen.length = 0;
      state.apply(one);
      return [...seen];
    };
    const deny = newPolicy({ name: "p", namespace: "ns", action: "Deny", rules: [] });
    const named = { kind: "named", key: "ns/p" };
    const namespace = { kind: "namespace", namespace: "ns" };
    assert.deepEqual(scopes({ kind: "policy", policy: deny }), [namespace, named]);
    assert.deepEqual(scopes({ kind: "policy", policy: { ...deny, scope: "WorkloadSelector" } }), [namespace, named]);
    assert.deepEqual(scopes({ kind: "policy", policy: { ...deny, scope: "Global" } }), [named, { kind: "global" }]);
    assert.deepEqual(scopes({ kind: "remove-policy", key: "ns/p" }), [{ kind: "global" }, named]);
    assert.deepEqual(scopes({ kind: "remove-policy", key: "ns/p" }), []);
    assert.deepEqual(scopes(put({ uid: "u" })), [{ kind: "workload", uid: "u" }]);
    assert.deepEqual(scopes(put({ uid: "u", node: "n" })), []);
    assert.deepEqual(scopes(put({ uid: "u", authorizationPolicies: ["ns/p"] })), [{ kind: "workload", uid: "u" }]);
    assert.deepEqual(scopes({ kind: "remove-workload", uid: "u" }), []);
  });

  it("which workload came, changed and went", () => {
    const state = new MeshState();
    const seen: (string | undefined)[][] = [];
    state.observe({ onWorkloadChanged: (before, after) => seen.push([before?.node, after?.node]) });
    state.apply(put({ uid: "u", node: "1" }));
    state.apply(put({ uid: "u", node: "2" }));
    state.apply({ kind: "remove-workload", uid: "u" });
    state.apply({ kind: "remove-workload", uid: "u" });
    assert.deepEqual(seen, [
      [undefined, "1"],
      ["1", "2"],
      ["2", undefined],
    ]);
  });
});

/** The same by looking at everything, in the order of arrival. */
class Naive {
  readonly workloads = new Map<string, Workload>();
  readonly services = new Map<string, Service>();
  readonly policies = new Map<string, unknown>();

  apply(one: MeshChange): void {
    if (one.kind === "workload") this.workloads.set(one.workload.uid, one.workload);
    else if (one.kind === "service") this.services.set(serviceKey(one.service), one.service);
    else if (one.kind === "policy") this.policies.set(policyKey(one.policy), one.policy);
    else if (one.kind === "remove-workload") this.workloads.delete(one.uid);
    else if (one.kind === "remove-service") this.services.delete(one.key);
    else if (one.kind === "remove-policy") this.policies.delete(one.key);
  }

  byIp(net: string, address: string): Workload | undefined {
    const rank = (w: Workload) => [w.uid.includes("//Pod/") ? 0 : 1, w.protocol === "HBONE" ? 0 : 1, w.uid].join(" ");
    const having = [...this.workloads.values()].filter((w) => !w.hostNetwork && this.#has(w, net, address));
    return having.sort((a, b) => (rank(a) < rank(b) ? -1 : 1))[0];
  }

  isHost(net: string, address: string): boolean {
    return [...this.workloads.values()].some((w) => w.hostNetwork && this.#has(w, net, address));
  }

  /** All that the rules allow: which of equals is first is not checked here. */
  vipCandidates(net: string, address: string, namespace: string): (Service | undefined)[] {
    const seen = [...this.services.values()].filter((service) => isVisible(service, namespace));
    const exact = seen.filter((s) => s.vips.some((vip) => vip.network === net && vip.ip === address));
    const own = exact.filter((s) => s.namespace === namespace);
    if (own.length > 0) return own;
    const canonical = exact.filter((s) => s.canonical);
    if (canonical.length > 0) return canonical;
    if (exact.length > 0) return exact;
    const bits = (s: Service) =>
      Math.max(...s.cidrVips.filter((v) => v.network === net && cidrContains(v.cidr, address)).map((v) => v.cidr.bits));
    const rank = (s: Service) => Number(s.namespace === namespace) * 1000 + bits(s) * 2 + Number(s.canonical);
    const within = seen.filter((s) => Number.isFinite(bits(s)));
    const highest = Math.max(...within.map(rank));
    return within.length === 0 ? [undefined] : within.filter((s) => rank(s) === highest);
  }

  members(key: string): Set<string> {
    return new Set([...this.workloads.values()].filter((w) => w.services.has(key)).map((w) => w.uid));
  }

  endpoints(service: Service): Set<string> {
    const all = service.loadBalancer?.healthPolicy === "AllowAll";
    const usable = [...this.members(serviceKey(service))].filter((uid) => {
      const workload = this.workloads.get(uid);
      return workload !== undefined && (workload.healthy || all) && workload.capacity > 0;
    });
    return new Set(usable);
  }

  staged(): Set<string> {
    const keys = [...this.workloads.values()].flatMap((w) => [...w.services.keys()]);
    return new Set(keys.filter((key) => !this.services.has(key)));
  }

  #has(workload: Workload, net: string, address: string): boolean {
    return workload.network === net && workload.addresses.includes(address);
  }
}

function filled(...changes: MeshChange[]): MeshState {
  const state = new MeshState();
  for (const one of changes) state.apply(one);
  return state;
}

function put(fields: Partial<WorkloadFields> & { readonly uid: string }): MeshChange {
  return { kind: "workload", workload: newWorkload({ name: fields.uid, namespace: "ns", ...fields }) };
}

function member(): Workload["services"] {
  return new Map([[KEY, new Map([[80, 8080]])]]);
}
