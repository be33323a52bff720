import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { convert, convertAuthorizationPolicy, DEFAULT_MESH_SETTINGS, type KubeObjects } from "./convert.ts";
import type { KubePod, KubePolicy, KubeService } from "./convert/kubernetes.ts";
import { dumpPolicy } from "./dump.ts";
import { newWorkload } from "./defaults.ts";
import type { Workload } from "./model.ts";
import { authorize } from "./authorize.ts";
import { encodeResource } from "./wds.ts";
import { MeshState } from "./state.ts";

const NOTHING: KubeObjects = {
  namespaces: [],
  pods: [],
  services: [],
  authorizationPolicies: [],
  peerAuthentications: [],
};

const POD: KubePod = {
  metadata: {
    name: "reviews-v1-5f4-x2",
    namespace: "bookinfo",
    generateName: "reviews-v1-5f4-",
    labels: { app: "reviews", version: "v1", "pod-template-hash": "5f4" },
    annotations: { "ambient.istio.io/redirection": "enabled" },
    ownerReferences: [{ kind: "ReplicaSet", name: "reviews-v1-5f4", controller: true }],
  },
  spec: {
    nodeName: "n1",
    serviceAccountName: "reviews",
    containers: [
      {
        ports: [
          { name: "http", containerPort: 9080 },
          { name: "dns", containerPort: 53, protocol: "UDP" },
        ],
      },
    ],
  },
  status: {
    phase: "Running",
    podIP: "10.0.0.5",
    podIPs: [{ ip: "10.0.0.5" }, { ip: "FD00::5" }],
    conditions: [{ type: "Ready", status: "True" }],
  },
};

const SERVICE: KubeService = {
  metadata: { name: "reviews", namespace: "bookinfo" },
  spec: {
    clusterIP: "10.96.0.9",
    clusterIPs: ["10.96.0.9", "fd00:1::9"],
    ipFamilies: ["IPv4", "IPv6"],
    selector: { app: "reviews" },
    ports: [
      { name: "http", port: 80, targetPort: "http" },
      { name: "grpc-admin", port: 81, targetPort: 8081 },
      { name: "other", port: 82, targetPort: "missing" },
      { name: "dns-udp", port: 53, targetPort: 5353, protocol: "UDP" },
      { name: "dns", port: 53, protocol: "TCP" },
    ],
  },
};

describe("a pod", () => {
  it("becomes a workload", () => {
    assert.deepEqual(workloadOf({ ...NOTHING, pods: [POD], services: [SERVICE] }), {
      ...newWorkload({
        uid: "Kubernetes//Pod/bookinfo/reviews-v1-5f4-x2",
        name: "reviews-v1-5f4-x2",
        namespace: "bookinfo",
      }),
      serviceAccount: "reviews",
      addresses: ["10.0.0.5", "fd00::5"],
      protocol: "HBONE",
      node: "n1",
      services: new Map([
        [
          "bookinfo/reviews.bookinfo.svc.cluster.local",
          new Map([
            [53, 53],
            [80, 9080],
            [81, 8081],
          ]),
        ],
      ]),
      workloadName: "reviews-v1",
      workloadType: "pod",
      canonicalName: "reviews",
      canonicalRevision: "v1",
    });
  });

  it("has the locality of its node and the cluster's settings", () => {
    const labels = {
      "topology.kubernetes.io/region": "r",
      "topology.kubernetes.io/zone": "z",
      "topology.istio.io/subzone": "s",
    };
    const settings = { ...DEFAULT_MESH_SETTINGS, clusterId: "c2", network: "net2", trustDomain: "example.org" };
    const { resources } = convert({ ...NOTHING, pods: [POD], nodes: [{ metadata: { name: "n1", labels } }] }, settings);
    assert.ok(resources[0]?.kind === "workload");
    const { locality, clusterId, network, trustDomain, uid } = resources[0].workload;
    assert.deepEqual(locality, { region: "r", zone: "z", subzone: "s" });
    assert.deepEqual([clusterId, network, trustDomain], ["c2", "net2", "example.org"]);
    assert.equal(uid, "c2//Pod/bookinfo/reviews-v1-5f4-x2");
  });

  const changed: readonly (readonly [what: string, pod: KubePod, expected: Partial<Workload>])[] = [
    ["that nobody captures speaks plaintext", withMeta({ annotations: {} }), { protocol: "TCP" }],
    [
      "that is only half captured speaks plaintext",
      withMeta({ annotations: { "ambient.istio.io/redirection": "pending" } }),
      { protocol: "TCP" },
    ],
    [
      "that terminates HBONE itself is native",
      withMeta({ annotations: {}, labels: { "networking.istio.io/tunnel": "http" } }),
      { protocol: "HBONE", nativeTunnel: true },
    ],
    ["that is not ready is unhealthy", { ...POD, status: { ...POD.status, conditions: [] } }, { healthy: false }],
    ["that is going away is unhealthy", withMeta({ deletionTimestamp: "2026-01-01T00:00:00Z" }), { healthy: false }],
    ["on the host's network is marked so", { ...POD, spec: { ...POD.spec, hostNetwork: true } }, { hostNetwork: true }],
    ["without account uses default", { ...POD, spec: { nodeName: "n1" } }, { serviceAccount: "default" }],
    ["without owner is its own workload", withMeta({ ownerReferences: [] }), { workloadName: "reviews-v1-5f4-x2" }],
    [
      "of a CronJob's Job is the CronJob's",
      withMeta({ ownerReferences: [{ kind: "Job", name: "nightly-28123456", controller: true }] }),
      { workloadName: "nightly" },
    ],
    [
      "is called as its labels say",
      withMeta({
        labels: {
          "service.istio.io/workload-name": "w",
          "service.istio.io/canonical-name": "c",
          "service.istio.io/canonical-revision": "r",
        },
      }),
      { workloadName: "w", canonicalName: "c", canonicalRevision: "r" },
    ],
    ["without labels is the latest of its owner", withMeta({ labels: {} }), { canonicalRevision: "latest" }],
    ["with one address only has that", { ...POD, status: { ...POD.status, podIPs: [] } }, { addresses: ["10.0.0.5"] }],
    ["that still starts is kept", { ...POD, status: { ...POD.status, phase: "Pending" } }, { healthy: true }],
  ];
  for (const [what, pod, expected] of changed) {
    it(what, () => {
      const workload = workloadOf({ ...NOTHING, pods: [pod] });
      for (const [key, value] of Object.entries(expected)) assert.deepEqual(workload?.[key as keyof Workload], value);
    });
  }

  const gone: readonly (readonly [what: string, status: KubePod["status"]])[] = [
    ["that has ended", { ...POD.status, phase: "Succeeded" }],
    ["that has failed", { ...POD.status, phase: "Failed" }],
    ["without address", { phase: "Running" }],
    ["with an address that is none", { phase: "Running", podIP: "here" }],
  ];
  for (const [what, status] of gone) {
    it(`${what} is no workload`, () => {
      assert.deepEqual(convert({ ...NOTHING, pods: [{ ...POD, status }] }).resources, []);
    });
  }
});

describe("a service", () => {
  it("keeps its addresses, ports, families and protocols", () => {
    const service = serviceOf(SERVICE);
    assert.deepEqual(service.vips, [
      { network: "", ip: "10.96.0.9" },
      { network: "", ip: "fd00:1::9" },
    ]);
    assert.deepEqual(
      [...service.ports],
      [
        [53, 53],
        [80, 0],
        [81, 8081],
        [82, 0],
      ],
    );
    assert.deepEqual(
      service.appProtocols,
      new Map([
        [80, "HTTP11"],
        [81, "GRPC"],
      ]),
    );
    assert.deepEqual(
      [service.ipFamilies, service.canonical, service.hostname],
      ["Dual", true, "reviews.bookinfo.svc.cluster.local"],
    );
  });

  it("without cluster IP has no address, and an external name is none", () => {
    assert.deepEqual(serviceOf({ ...SERVICE, spec: { clusterIP: "None" } }).vips, []);
    assert.deepEqual(convert({ ...NOTHING, services: [{ ...SERVICE, spec: { type: "ExternalName" } }] }).resources, []);
  });

  const CLOSE = { routingPreferences: ["Network", "Region", "Zone"], mode: "Failover", healthPolicy: "OnlyHealthy" };
  const annotated = (value: string) => ({ "networking.istio.io/traffic-distribution": value });
  const balancing: readonly (readonly [
    string,
    KubeService["spec"],
    Record<string, string>,
    Record<string, string>,
    unknown,
  ])[] = [
    ["nothing said", {}, {}, {}, undefined],
    ["PreferClose", { trafficDistribution: "PreferClose" }, {}, {}, CLOSE],
    [
      "local beats all",
      { internalTrafficPolicy: "Local", trafficDistribution: "PreferClose" },
      {},
      {},
      { routingPreferences: ["Node"], mode: "Strict", healthPolicy: "OnlyHealthy" },
    ],
    [
      "an unknown field value goes on to the annotation",
      { trafficDistribution: "X" },
      annotated("PreferClose"),
      {},
      CLOSE,
    ],
    ["an unknown annotation stops the search", {}, annotated("Any"), annotated("PreferClose"), undefined],
    ["the namespace's annotation", {}, {}, annotated("prefersamezone"), CLOSE],
    [
      "addresses that are not ready, too",
      { publishNotReadyAddresses: true },
      {},
      {},
      { routingPreferences: [], mode: "Standard", healthPolicy: "AllowAll" },
    ],
    [
      "not ready and close",
      { publishNotReadyAddresses: true, trafficDistribution: "PreferClose" },
      {},
      {},
      { ...CLOSE, healthPolicy: "AllowAll" },
    ],
  ];
  for (const [what, spec, annotations, inherited, expected] of balancing) {
    it(`balances as told: ${what}`, () => {
      const service = { metadata: { ...SERVICE.metadata, annotations }, spec };
      const namespaces = [{ metadata: { name: "bookinfo", annotations: inherited } }];
      const [change] = convert({ ...NOTHING, namespaces, services: [service] }).resources;
      assert.ok(change?.kind === "service");
      assert.deepEqual(change.service.loadBalancer, expected);
    });
  }

  it("whose waypoint is not there is bound to one that nobody finds, and says so", () => {
    const labels = { "istio.io/use-waypoint": "wp" };
    const { resources, statuses } = convert({
      ...NOTHING,
      namespaces: [{ metadata: { name: "bookinfo", labels } }],
      services: [SERVICE],
    });
    assert.ok(resources[0]?.kind === "service");
    assert.deepEqual(resources[0].service.waypoint, {
      destination: { kind: "hostname", namespace: "bookinfo", hostname: "wp.bookinfo.svc.cluster.local" },
      hboneMtlsPort: 15008,
    });
    assert.deepEqual(statuses, [
      {
        kind: "Service",
        namespace: "bookinfo",
        name: "reviews",
        generation: undefined,
        manager: "istio-ambient-service",
        conditions: [
          {
            type: "istio.io/WaypointBound",
            status: "False",
            reason: "WaypointIsNotReady",
            message: 'waypoint "bookinfo/wp" is not ready',
          },
        ],
      },
    ]);
    const optedOut = { ...SERVICE, metadata: { ...SERVICE.metadata, labels: { "istio.io/use-waypoint": "none" } } };
    const namespaces = [{ metadata: { name: "bookinfo", labels } }];
    const [change] = convert({ ...NOTHING, namespaces, services: [optedOut] }).resources;
    assert.ok(change?.kind === "service");
    assert.equal(change.service.waypoint, undefined);
  });
});

describe("an AuthorizationPolicy", () => {
  const bad = { from: [{ source: { namespaces: ["bad"] } }] };
  const post = { to: [{ operation: { methods: ["POST"] } }] };
  const cases: readonly (readonly [name: string, spec: unknown, rules: unknown, found?: string])[] = [
    [
      "each field",
      {
        action: "DENY",
        rules: [
          {
            from: [
              {
                source: {
                  principals: ["cluster.local/ns/a/sa/b", "x*", "*y", "*"],
                  notPrincipals: ["p"],
                  namespaces: ["n"],
                  notNamespaces: ["m"],
                  serviceAccounts: ["web", "other/web"],
                  notServiceAccounts: ["a/b"],
                  ipBlocks: ["10.0.0.0/8", "::1"],
                  notIpBlocks: ["10.1.0.0/16"],
                },
              },
            ],
            to: [{ operation: { ports: ["80", 81], notPorts: ["82"] } }],
            when: [
              { key: "destination.ip", values: ["10.2.0.1"] },
              { key: "destination.port", values: ["80"], notValues: ["90"] },
            ],
          },
        ],
      },
      [
        [
          [{ destinationPorts: [80, 81], notDestinationPorts: [82] }],
          [
            {
              principals: [{ Exact: "cluster.local/ns/a/sa/b" }, { Prefix: "x" }, { Suffix: "y" }, { Presence: [] }],
              notPrincipals: [{ Exact: "p" }],
              namespaces: [{ Exact: "n" }],
              notNamespaces: [{ Exact: "m" }],
              serviceAccounts: [
                { namespace: "demo", serviceAccount: "web" },
                { namespace: "other", serviceAccount: "web" },
              ],
              notServiceAccounts: [{ namespace: "a", serviceAccount: "b" }],
              sourceIps: ["10.0.0.0/8", "::1/128"],
              notSourceIps: ["10.1.0.0/16"],
            },
          ],
          [{ destinationIps: ["10.2.0.1/32"] }],
          [{ destinationPorts: [80], notDestinationPorts: [90] }],
        ],
      ],
    ],
    ["nothing allowed", { action: "ALLOW" }, []],
    ["no spec: nothing allowed", undefined, []],
    ["everything allowed", { rules: [{}] }, [[]]],
    [
      "ALLOW with methods: the rule is left out",
      { rules: [post, bad] },
      [[[{ namespaces: [{ Exact: "bad" }] }]]],
      "methods",
    ],
    [
      "ALLOW with methods in one of its items: the whole rule is left out",
      { rules: [{ ...bad, ...post }] },
      [],
      "methods",
    ],
    ["DENY with methods only: denies all", { action: "DENY", rules: [post] }, [[]], "methods"],
    [
      "DENY with methods beside others: enforced without",
      { action: "DENY", rules: [{ ...bad, ...post }] },
      [[[{ namespaces: [{ Exact: "bad" }] }]]],
      "methods",
    ],
    [
      "DENY with methods in one of several alternatives: any port",
      { action: "DENY", rules: [{ ...bad, to: [{ operation: { ports: ["80"] } }, ...post.to] }] },
      [[[{ namespaces: [{ Exact: "bad" }] }]]],
      "methods",
    ],
    [
      "DENY with methods and ports in one item: the ports stay",
      { action: "DENY", rules: [{ to: [{ operation: { ports: ["80"], methods: ["POST"] } }] }] },
      [[[{ destinationPorts: [80] }]]],
      "methods",
    ],
    [
      "DENY with a request header: without it",
      { action: "DENY", rules: [{ ...bad, when: [{ key: "request.headers[x]", values: ["1"] }] }] },
      [[[{ namespaces: [{ Exact: "bad" }] }]]],
      "request.headers[x]",
    ],
    [
      "trust domains are what principals begin with",
      { action: "DENY", rules: [{ from: [{ source: { notTrustDomains: ["cluster.local"], notPrincipals: ["p"] } }] }] },
      [[[{ notPrincipals: [{ Prefix: "cluster.local/" }, { Exact: "p" }] }]]],
    ],
    [
      "trust domains beside principals cannot be told: ALLOW leaves the rule out",
      { rules: [{ from: [{ source: { trustDomains: ["a"], principals: ["a/ns/b/sa/c"] } }] }] },
      [],
      "principals",
    ],
    [
      "an address that is none: ALLOW leaves the rule out",
      { rules: [{ from: [{ source: { notIpBlocks: ["x"] } }] }] },
      [],
      "notIpBlocks",
    ],
    [
      "a port that is none: DENY denies all",
      { action: "DENY", rules: [{ to: [{ operation: { ports: ["http"] } }] }] },
      [[]],
      "ports",
    ],
    [
      "an empty namespace would be plaintext",
      { rules: [{ from: [{ source: { namespaces: [""] } }] }] },
      [],
      "namespaces",
    ],
    ["an unknown field is not ignored", { rules: [{ from: [{ source: { principal: ["a"] } }] }] }, [], "principal"],
    ["an unknown part of a rule is not ignored", { rules: [{ form: [{ source: {} }] }] }, [], "form"],
    [
      "a pattern for an account cannot be excluded",
      { rules: [{ from: [{ source: { notServiceAccounts: ["*"] } }] }] },
      [],
      "notServiceAccounts",
    ],
    ["an empty source allows nobody", { rules: [{ from: [{ source: {} }] }] }, [[[{}]]]],
    ["a condition without values allows nobody", { rules: [{ when: [{ key: "source.ip" }] }] }, [], "source.ip"],
    ["a rule that is none allows nobody", { rules: [null] }, [], "rule"],
  ];
  for (const [name, spec, rules, found] of cases) {
    it(`is converted: ${name}`, () => {
      const { policy, status } = convertAuthorizationPolicy(policyObject(spec), DEFAULT_MESH_SETTINGS);
      assert.ok(policy);
      assert.deepEqual(dumpPolicy(policy)["rules"], rules);
      if (found === undefined)
        assert.deepEqual([status?.conditions[0]?.status, status?.conditions[0]?.reason], ["True", "Accepted"]);
      else
        assert.match(status?.conditions[0]?.message ?? "", new RegExp(`found: ${found.replace(/[[\]]/g, "\\$&")}\\)`));
    });
  }

  it("that cannot be read denies all and says why", () => {
    for (const spec of [{ rules: "x" }, { action: "allow" }, { selector: { matchExpressions: [] } }, "x"]) {
      const { policy, status } = convertAuthorizationPolicy(policyObject(spec), DEFAULT_MESH_SETTINGS);
      assert.deepEqual([policy?.action, policy?.rules], ["Deny", [[]]]);
      assert.deepEqual([status?.conditions[0]?.status, status?.conditions[0]?.reason], ["False", "Invalid"]);
    }
  });

  it("of actions that L4 does not have is not sent, and says so", () => {
    for (const action of ["AUDIT", "CUSTOM"]) {
      const { policy, status } = convertAuthorizationPolicy(policyObject({ action }), DEFAULT_MESH_SETTINGS);
      assert.equal(policy, undefined);
      assert.equal(status?.conditions[0]?.message, `ztunnel does not support the ${action} action`);
    }
  });

  it("bound to a waypoint is not for L4", () => {
    for (const spec of [
      { targetRefs: [{ kind: "Gateway", name: "wp" }] },
      { targetRef: { kind: "Service", name: "s" } },
    ]) {
      assert.deepEqual(convertAuthorizationPolicy(policyObject(spec), DEFAULT_MESH_SETTINGS), {
        policy: undefined,
        selector: undefined,
        status: undefined,
      });
    }
  });

  it("has the scope of its namespace and selector", () => {
    const scopeOf = (namespace: string, spec: unknown) => {
      return convertAuthorizationPolicy(policyObject(spec, namespace), DEFAULT_MESH_SETTINGS).policy?.scope;
    };
    assert.equal(scopeOf("istio-system", {}), "Global");
    assert.equal(scopeOf("demo", {}), "Namespace");
    assert.equal(scopeOf("demo", { selector: {} }), "Namespace");
    assert.equal(scopeOf("demo", { selector: { matchLabels: { app: "x" } } }), "WorkloadSelector");
    assert.equal(scopeOf("istio-system", { selector: { matchLabels: { app: "x" } } }), "WorkloadSelector");
  });

  it("is only tried when it says so", () => {
    const dryRun = (value: string) => {
      const object = {
        ...policyObject({}),
        metadata: { name: "p", namespace: "demo", annotations: { "istio.io/dry-run": value } },
      };
      return convertAuthorizationPolicy(object, DEFAULT_MESH_SETTINGS).policy?.dryRun;
    };
    assert.deepEqual(["true", "1", "false", "perhaps"].map(dryRun), [true, true, false, false]);
  });

  it("is named by the workloads that it selects, its own namespace's or, from the root, everybody's", () => {
    const selector = { matchLabels: { app: "reviews" } };
    const authorizationPolicies = [
      policyObject({ selector }, "bookinfo", "z"),
      policyObject({ selector }, "istio-system", "root"),
      policyObject({ selector }, "other", "no"),
      policyObject({ selector: { matchLabels: { app: "x" } } }, "bookinfo", "no"),
      policyObject({}, "bookinfo", "namespace-wide"),
      policyObject({ selector }, "bookinfo", "a"),
    ];
    const peerAuthentications = [policyObject({ mtls: { mode: "STRICT" } }, "bookinfo")];
    assert.deepEqual(
      workloadOf({ ...NOTHING, pods: [POD], authorizationPolicies, peerAuthentications })?.authorizationPolicies,
      ["bookinfo/a", "bookinfo/z", "istio-system/root", "istio-system/istio_converted_static_strict"],
    );
  });
});

describe("a PeerAuthentication", () => {
  const selector = { matchLabels: { app: "reviews" } };
  const mode = (word: string) => ({ mtls: { mode: word } });
  const ports = (entries: Record<string, string>) => ({
    selector,
    portLevelMtls: Object.fromEntries(Object.entries(entries).map(([port, word]) => [port, { mode: word }])),
  });
  const root = (spec: unknown) => policyObject(spec, "istio-system", "mesh");
  const own = (spec: unknown, name = "ns") => policyObject(spec, "bookinfo", name);

  /** Whether plaintext gets in on port 80 and on port 81: what the table of control-plane.md §2.8 comes down to. */
  const cases: readonly (readonly [
    name: string,
    policies: KubePolicy[],
    plaintext80: boolean,
    plaintext81: boolean,
  ])[] = [
    ["none", [], true, true],
    ["mesh strict", [root(mode("STRICT"))], false, false],
    ["namespace permissive under a strict mesh", [root(mode("STRICT")), own(mode("PERMISSIVE"))], true, true],
    ["namespace unset under a strict mesh", [root(mode("STRICT")), own(mode("UNSET"))], false, false],
    ["workload strict", [own({ selector, ...mode("STRICT") })], false, false],
    ["workload disabled under strict", [own(mode("STRICT")), own({ selector, ...mode("DISABLE") }, "w")], true, true],
    ["workload for others", [own({ selector: { matchLabels: { app: "x" } }, ...mode("STRICT") })], true, true],
    ["strict, all ports strict", [own({ ...ports({ 80: "STRICT", 81: "STRICT" }), ...mode("STRICT") })], false, false],
    ["strict, one port permissive", [own({ ...ports({ 80: "PERMISSIVE" }), ...mode("STRICT") })], true, false],
    ["strict, one port disabled", [own({ ...ports({ 80: "DISABLE" }), ...mode("STRICT") })], true, false],
    [
      "strict, both ports permissive",
      [own({ ...ports({ 80: "PERMISSIVE", 81: "DISABLE" }), ...mode("STRICT") })],
      true,
      true,
    ],
    ["permissive, one port strict", [own({ ...ports({ 80: "STRICT" }), ...mode("PERMISSIVE") })], false, true],
    ["permissive, no port strict", [own({ ...ports({ 80: "PERMISSIVE" }), ...mode("PERMISSIVE") })], true, true],
    [
      "unset under strict, one port permissive",
      [own(mode("STRICT")), own(ports({ 80: "PERMISSIVE" }), "w")],
      true,
      false,
    ],
    ["unset under strict, all ports strict", [own(mode("STRICT")), own(ports({ 80: "STRICT" }), "w")], false, false],
    ["unset under nothing, one port strict", [own(ports({ 80: "STRICT" }))], false, true],
    ["unset, no ports, under strict", [own(mode("STRICT")), own({ selector }, "w")], false, false],
    [
      "defect a: permissive workload with a strict port under a strict mesh",
      [root(mode("STRICT")), own({ ...ports({ 80: "STRICT" }), ...mode("PERMISSIVE") })],
      false,
      true,
    ],
    [
      "defect b: unset under strict with a disabled port",
      [own(mode("STRICT")), own(ports({ 80: "DISABLE" }), "w")],
      true,
      false,
    ],
    [
      "defect c: unset workload with a permissive port, unset namespace, strict mesh",
      [root(mode("STRICT")), own(mode("UNSET")), own(ports({ 80: "PERMISSIVE" }), "w")],
      true,
      false,
    ],
    ["port of an unset mode follows", [own({ ...ports({ 80: "UNSET" }), ...mode("STRICT") })], false, false],
    ["selector in the root namespace means nothing", [root({ selector, ...mode("STRICT") })], true, true],
    ["ports without selector mean nothing", [own({ portLevelMtls: { 80: { mode: "STRICT" } } })], true, true],
    ["a mode that is none is strict", [own(mode("strict"))], false, false],
    ["a setting that cannot be read is strict", [own({ mtls: "STRICT" })], false, false],
  ];
  for (const [name, peerAuthentications, plaintext80, plaintext81] of cases) {
    it(`decides on plaintext: ${name}`, () => {
      const { resources } = convert({ ...NOTHING, pods: [POD], peerAuthentications });
      const state = new MeshState();
      for (const change of resources) state.apply(change);
      const local = state.workload("Kubernetes//Pod/bookinfo/reviews-v1-5f4-x2");
      assert.ok(local);
      const allowed = (port: number, identity = false) => {
        const verdict = authorize(state, {
          identity: identity ? { trustDomain: "cluster.local", namespace: "a", serviceAccount: "b" } : undefined,
          source: { ip: "10.0.0.1", port: 1 },
          destination: { ip: "10.0.0.5", port },
          local,
        });
        assert.notEqual(verdict.kind, "wait", "names a policy that is not there");
        return verdict.kind === "allowed";
      };
      assert.deepEqual([allowed(80), allowed(81)], [plaintext80, plaintext81]);
      assert.deepEqual([allowed(80, true), allowed(81, true)], [true, true]);
    });
  }

  it("is written as Istio writes it", () => {
    const exceptPort = own({ ...ports({ 8080: "PERMISSIVE", 90: "DISABLE" }), ...mode("STRICT") }, "echo-port");
    const { resources } = convert({ ...NOTHING, peerAuthentications: [exceptPort] });
    assert.deepEqual(
      resources.map((change) => change.kind === "policy" && dumpPolicy(change.policy)),
      [
        {
          action: "Deny",
          dryRun: false,
          name: "converted_peer_authentication_echo-port",
          namespace: "bookinfo",
          rules: [
            [
              [{ notPrincipals: [{ Presence: [] }] }],
              [{ notDestinationPorts: [90] }],
              [{ notDestinationPorts: [8080] }],
            ],
          ],
          scope: "WorkloadSelector",
        },
        {
          action: "Deny",
          dryRun: false,
          name: "istio_converted_static_strict",
          namespace: "istio-system",
          rules: [[[{ notPrincipals: [{ Presence: [] }] }]]],
          scope: "WorkloadSelector",
        },
      ],
    );
  });

  it("of several the oldest counts", () => {
    const dated = (name: string, creationTimestamp: string, word: string): KubePolicy => ({
      metadata: { name, namespace: "bookinfo", creationTimestamp },
      spec: { selector, ...mode(word) },
    });
    const strictFirst = [
      dated("b", "2026-01-01T00:00:00Z", "STRICT"),
      dated("a", "2026-01-02T00:00:00Z", "PERMISSIVE"),
    ];
    for (const peerAuthentications of [strictFirst, strictFirst.toReversed()]) {
      assert.deepEqual(workloadOf({ ...NOTHING, pods: [POD], peerAuthentications })?.authorizationPolicies, [
        "istio-system/istio_converted_static_strict",
      ]);
    }
  });

  it("that cannot be read says so", () => {
    const { statuses } = convert({
      ...NOTHING,
      peerAuthentications: [own({ mtls: { mode: "strict" }, selector: [] })],
    });
    assert.deepEqual(
      statuses.map(({ kind, conditions: [one] }) => [kind, one?.reason, one?.message]),
      [["PeerAuthentication", "Invalid", "cannot be read (selector, mtls.mode): it counts as STRICT there"]],
    );
  });
});

describe("the whole", () => {
  it("is equal bytes for equal objects in any order", () => {
    const objects: KubeObjects = {
      namespaces: [{ metadata: { name: "bookinfo" } }],
      pods: [POD, { ...POD, metadata: { ...POD.metadata, name: "a" } }],
      services: [SERVICE, { ...SERVICE, metadata: { name: "a", namespace: "bookinfo" } }],
      authorizationPolicies: [policyObject({}, "bookinfo", "z"), policyObject({}, "bookinfo", "a")],
      peerAuthentications: [policyObject({ mtls: { mode: "STRICT" } }, "bookinfo")],
    };
    const reversed: KubeObjects = {
      namespaces: objects.namespaces,
      pods: objects.pods.toReversed(),
      services: objects.services.toReversed(),
      authorizationPolicies: objects.authorizationPolicies.toReversed(),
      peerAuthentications: objects.peerAuthentications,
    };
    const bytes = (from: KubeObjects) => convert(from).resources.map((change) => encodeResource(change));
    assert.deepEqual(bytes(objects), bytes(reversed));
    assert.deepEqual(convert(objects).statuses, convert(reversed).statuses);
  });
});

function withMeta(metadata: KubePod["metadata"]): KubePod {
  return { ...POD, metadata: { ...POD.metadata, ...metadata } };
}

function workloadOf(objects: KubeObjects): Workload | undefined {
  return convert(objects).resources.flatMap((change) => (change.kind === "workload" ? change.workload : []))[0];
}

function serviceOf(service: KubeService) {
  const [change] = convert({ ...NOTHING, services: [service] }).resources;
  assert.ok(change?.kind === "service");
  return change.service;
}

function policyObject(spec: unknown, namespace = "demo", name = "p"): KubePolicy {
  return { metadata: { name, namespace }, spec };
}
