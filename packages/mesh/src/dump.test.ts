import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseCidr } from "@tulle/base";
import * as fc from "fast-check";
import { change, policy, service, workload } from "../test/arbitraries.ts";
import { newMatch, newPolicy, newService, newWorkload } from "./defaults.ts";
import { dumpPolicy, dumpService, dumpState, dumpWorkload } from "./dump.ts";
import { MeshState } from "./state.ts";

const RANGE = parseCidr("10.1.0.0/16");
assert.ok(RANGE);

describe("the dump of a workload", () => {
  it("has what is always there, and nothing that is empty", () => {
    const plain = newWorkload({ uid: "", name: "n", namespace: "a", trustDomain: "", serviceAccount: "" });
    assert.deepEqual(dumpWorkload(plain), {
      capacity: 1,
      clusterId: "Kubernetes",
      name: "n",
      namespace: "a",
      networkMode: "Standard",
      protocol: "TCP",
      status: "Healthy",
      workloadIps: [],
      workloadType: "deployment",
    });
  });

  const full = newWorkload({
    uid: "c//Pod/a/n",
    name: "n",
    namespace: "a",
    addresses: ["10.0.0.1", "fd00::1"],
    hostname: "db.example",
    network: "net1",
    protocol: "HBONE",
    hostNetwork: true,
    nativeTunnel: true,
    node: "n1",
    waypoint: { destination: { kind: "address", network: "", ip: "10.96.0.9" }, hboneMtlsPort: 15008 },
    networkGateway: { destination: { kind: "hostname", namespace: "a", hostname: "gw" }, hboneMtlsPort: 15009 },
    applicationTunnel: { protocol: "PROXY", port: undefined },
    services: new Map([
      ["a/z", new Map([[80, 8080]])],
      ["a/b", new Map()],
    ]),
    authorizationPolicies: ["a/p"],
    healthy: false,
    capacity: 0,
    locality: { region: "r", zone: "", subzone: "" },
    workloadName: "w",
    workloadType: "job",
    canonicalName: "c",
    canonicalRevision: "v",
  });

  it("has all that is set, keys in order", () => {
    const dump = dumpWorkload(full);
    assert.deepEqual(dump, {
      applicationTunnel: { port: null, protocol: "PROXY" },
      authorizationPolicies: ["a/p"],
      canonicalName: "c",
      canonicalRevision: "v",
      capacity: 0,
      clusterId: "Kubernetes",
      hostname: "db.example",
      locality: { region: "r", zone: "", subzone: "" },
      name: "n",
      namespace: "a",
      nativeTunnel: true,
      network: "net1",
      networkGateway: { destination: "a/gw", hboneMtlsPort: 15009 },
      networkMode: "HostNetwork",
      node: "n1",
      protocol: "HBONE",
      serviceAccount: "default",
      services: ["a/b", "a/z"],
      status: "Unhealthy",
      trustDomain: "cluster.local",
      uid: "c//Pod/a/n",
      waypoint: { destination: "/10.96.0.9", hboneMtlsPort: 15008 },
      workloadIps: ["10.0.0.1", "fd00::1"],
      workloadName: "w",
      workloadType: "job",
    });
    assert.deepEqual(Object.keys(dump), Object.keys(dump).sort());
  });

  it("shows ports in the static configuration", () => {
    assert.deepEqual(dumpWorkload(full, "map")["services"], { "a/b": {}, "a/z": { "80": 8080 } });
    assert.deepEqual(dumpWorkload(newWorkload({ uid: "", name: "", namespace: "" }), "map")["services"], {});
  });
});

describe("the dump of a service", () => {
  const plain = newService({ name: "s", namespace: "a", hostname: "s.a.svc" });

  it("has what is always there, and nothing that is empty", () => {
    assert.deepEqual(dumpService(plain, []), {
      canonical: false,
      endpoints: {},
      hostname: "s.a.svc",
      name: "s",
      namespace: "a",
      ports: {},
      subjectAltNames: [],
      vips: [],
      visibility: "Public",
    });
  });

  it("has all that is set", () => {
    const full = newService({
      ...plain,
      vips: [{ network: "net1", ip: "10.96.0.1" }],
      cidrVips: [{ network: "net1", cidr: RANGE }],
      ports: new Map([
        [8080, 0],
        [80, 8080],
      ]),
      subjectAltNames: ["spiffe://x"],
      waypoint: { destination: { kind: "hostname", namespace: "a", hostname: "wp" }, hboneMtlsPort: 15008 },
      weightedWaypoints: [
        {
          destination: { destination: { kind: "hostname", namespace: "a", hostname: "wp" }, hboneMtlsPort: 15008 },
          weight: 90,
        },
      ],
      loadBalancer: { routingPreferences: ["Network", "Zone"], mode: "Failover", healthPolicy: "AllowAll" },
      ipFamilies: "Dual",
      canonical: true,
      visibility: "Namespace",
    });
    const services = new Map([["a/s.a.svc", new Map([[80, 8080]])]]);
    const members = [
      newWorkload({ uid: "z", name: "z", namespace: "a", healthy: false, services }),
      newWorkload({ uid: "b", name: "b", namespace: "a", services }),
    ];
    const dump = dumpService(full, members);
    assert.deepEqual(dump, {
      canonical: true,
      cidrVips: [{ cidr: "10.1.0.0/16", network: "net1" }],
      endpoints: {
        b: { port: { "80": 8080 }, status: "Healthy", workloadUid: "b" },
        z: { port: { "80": 8080 }, status: "Unhealthy", workloadUid: "z" },
      },
      hostname: "s.a.svc",
      ipFamilies: "Dual",
      loadBalancer: { healthPolicy: "AllowAll", mode: "Failover", routingPreferences: ["Network", "Zone"] },
      name: "s",
      namespace: "a",
      ports: { "80": 8080, "8080": 0 },
      subjectAltNames: ["spiffe://x"],
      vips: ["net1/10.96.0.1"],
      visibility: "Namespace",
      waypoint: { destination: "a/wp", hboneMtlsPort: 15008 },
      weightedWaypoints: [{ destination: { destination: "a/wp", hboneMtlsPort: 15008 }, weight: 90 }],
    });
    assert.deepEqual(Object.keys(dump), Object.keys(dump).sort());
    const { loadBalancer: _, ...withoutPreference } = full;
    const healthy = dumpService({ ...withoutPreference, loadBalancer: undefined }, members);
    assert.deepEqual(Object.keys(healthy["endpoints"] ?? {}), ["b"]);
  });
});

describe("the dump of a policy", () => {
  it("has its rules without empty fields", () => {
    const match = newMatch({
      namespaces: [{ kind: "exact", value: "a" }],
      notNamespaces: [{ kind: "suffix", value: "z" }],
      principals: [{ kind: "prefix", value: "p" }],
      notPrincipals: [{ kind: "presence" }],
      serviceAccounts: [{ namespace: "a", serviceAccount: "b" }],
      sourceIps: [RANGE],
      notDestinationPorts: [8080],
    });
    const one = newPolicy({ name: "p", namespace: "a", action: "Allow", rules: [[[match, newMatch({})]], []] });
    assert.deepEqual(dumpPolicy(one), {
      action: "Allow",
      dryRun: false,
      name: "p",
      namespace: "a",
      rules: [
        [
          [
            {
              namespaces: [{ Exact: "a" }],
              notDestinationPorts: [8080],
              notNamespaces: [{ Suffix: "z" }],
              notPrincipals: [{ Presence: [] }],
              principals: [{ Prefix: "p" }],
              serviceAccounts: [{ namespace: "a", serviceAccount: "b" }],
              sourceIps: ["10.1.0.0/16"],
            },
            {},
          ],
        ],
        [],
      ],
      scope: "Namespace",
    });
  });
});

describe("the dump of the state", () => {
  it("is in order, with endpoints of unknown services apart", () => {
    const state = new MeshState();
    const services = new Map([["a/gone", new Map([[80, 8080]])]]);
    for (const uid of ["c", "a"]) {
      state.apply({ kind: "workload", workload: newWorkload({ uid, name: uid, namespace: "a", services }) });
    }
    for (const hostname of ["z", "b"]) {
      state.apply({ kind: "service", service: newService({ name: hostname, namespace: "a", hostname }) });
    }
    for (const name of ["y", "x"]) {
      state.apply({ kind: "policy", policy: newPolicy({ name, namespace: "a", action: "Deny", rules: [] }) });
    }
    const dump = dumpState(state);
    assert.deepEqual(
      dump.workloads.map((item) => item["uid"]),
      ["a", "c"],
    );
    assert.deepEqual(
      dump.services.map((item) => item["hostname"]),
      ["b", "z"],
    );
    assert.deepEqual(
      dump.policies.map((item) => item["name"]),
      ["x", "y"],
    );
    assert.deepEqual(Object.keys(dump.stagedServices), ["a/gone"]);
    assert.deepEqual(dump.stagedServices["a/gone"], {
      a: { port: { "80": 8080 }, status: "Healthy", workloadUid: "a" },
      c: { port: { "80": 8080 }, status: "Healthy", workloadUid: "c" },
    });
  });

  it("is JSON, whatever is in it", () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 10 }), (changes) => {
        const state = new MeshState();
        for (const one of changes) state.apply(one);
        const dump = dumpState(state);
        assert.deepEqual(JSON.parse(JSON.stringify(dump)), dump);
      }),
    );
    fc.assert(
      fc.property(workload, service, policy, (w, s, p) => {
        const dump = [dumpWorkload(w, "map"), dumpService(s, [w]), dumpPolicy(p)];
        assert.deepEqual(JSON.parse(JSON.stringify(dump)), dump);
      }),
    );
  });
});
