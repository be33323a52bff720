import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { convert, DEFAULT_MESH_SETTINGS, type KubeObjects } from "./convert.ts";
import type { KubePod, KubePolicy, KubeService } from "./convert/kubernetes.ts";
import { newWorkload } from "./defaults.ts";
import type { Workload } from "./model.ts";
import { encodeResource } from "./wds.ts";

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
      destination: { kind: "hostname", namespace: "bookinfo", hostname: "wp.bookinfo.waypoint.invalid" },
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
            message:
              'waypoint "bookinfo/wp" is not ready. Traffic is refused until this is solved; ' +
              "annotation ambient.tulle.dev/waypoint-optional=true lets it pass without",
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
