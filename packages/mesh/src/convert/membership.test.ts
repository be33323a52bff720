import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { convert, type KubeObjects } from "../convert.ts";
import type { Workload } from "../model.ts";
import type { KubeEndpointSlice, KubeWorkloadEntry } from "./istio-objects.ts";
import type { KubePod, KubeService } from "./kubernetes.ts";

const KEY = "a/web.a.svc.cluster.local";

const POD: KubePod = {
  metadata: { name: "p", namespace: "a", uid: "u1", labels: { app: "web" } },
  spec: {
    containers: [
      {
        ports: [
          { name: "web", containerPort: 8080 },
          { name: "quic", containerPort: 8443, protocol: "UDP" },
        ],
      },
    ],
    initContainers: [
      { ports: [{ name: "once", containerPort: 1 }] },
      { restartPolicy: "Always", ports: [{ name: "side", containerPort: 9090 }] },
    ],
  },
  status: { phase: "Running", podIP: "10.0.0.1" },
};

const SLICE: KubeEndpointSlice = {
  metadata: { name: "web-1", namespace: "a", labels: { "kubernetes.io/service-name": "web" } },
  addressType: "IPv4",
  ports: [
    { name: "http", port: 8081, protocol: "TCP" },
    { name: "dns", port: 5353, protocol: "UDP" },
  ],
  endpoints: [{ addresses: ["10.7.0.1"] }],
};

describe("ports of a pod", () => {
  const cases: readonly (readonly [
    string,
    NonNullable<NonNullable<KubeService["spec"]>["ports"]>[number],
    number | undefined,
  ])[] = [
    ["a number", { port: 80, targetPort: 81 }, 81],
    ["nothing: the service's", { port: 80 }, 80],
    ["the name of a container's", { port: 80, targetPort: "web" }, 8080],
    ["the name of one of another protocol", { port: 80, targetPort: "quic" }, undefined],
    ["the name of a sidecar's", { port: 80, targetPort: "side" }, 9090],
    ["the name of a container's that has ended", { port: 80, targetPort: "once" }, undefined],
    ["a name that nobody has", { port: 80, targetPort: "other" }, undefined],
  ];
  for (const [name, port, expected] of cases) {
    it(`are those that the Service's target port says: ${name}`, () => {
      const [workload] = workloadsOf({ pods: [POD], services: [service({ selector: { app: "web" }, ports: [port] })] });
      assert.equal(workload?.services.get(KEY)?.get(80), expected);
      assert.ok(workload?.services.has(KEY));
    });
  }

  const entries: readonly (readonly [string, object, number])[] = [
    ["the container's port of that name", { number: 80, name: "web", targetPort: 81 }, 8080],
    ["else the target port", { number: 80, name: "http", targetPort: 81 }, 81],
    ["else the port", { number: 80, name: "http" }, 80],
  ];
  for (const [name, port, expected] of entries) {
    it(`are, of a ServiceEntry that selects it, ${name}`, () => {
      const spec = {
        hosts: ["x.example"],
        resolution: "STATIC",
        ports: [port],
        workloadSelector: { labels: { app: "web" } },
      };
      const serviceEntries = [{ metadata: { name: "e", namespace: "a" }, spec: spec as never }];
      const [workload] = workloadsOf({ pods: [POD], serviceEntries });
      assert.deepEqual(workload?.services, new Map([["a/x.example", new Map([[80, expected]])]]));
    });
  }

  it("are none of services of other namespaces, without selector, or by another name", () => {
    const services = [
      service({ selector: {} }),
      service({ selector: { app: "other" } }, "v"),
      service({ selector: { app: "web" }, type: "ExternalName" }, "w"),
      { ...service({ selector: { app: "web" } }), metadata: { name: "web", namespace: "b" } },
    ];
    const spec = { hosts: ["x.example"], workloadSelector: { labels: {} } };
    const serviceEntries = [
      { metadata: { name: "e", namespace: "a" }, spec },
      {
        metadata: { name: "f", namespace: "b" },
        spec: { hosts: ["y.example"], workloadSelector: { labels: { app: "web" } } },
      },
    ];
    const [workload] = workloadsOf({ pods: [POD], services, serviceEntries });
    assert.deepEqual(workload?.services, new Map());
  });
});

describe("a slice of endpoints", () => {
  const selectorless = service({
    ports: [
      { name: "http", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" },
      { name: "more", port: 90 },
    ],
  });

  it("is a workload for each endpoint that is no pod", () => {
    const endpoints = [
      { addresses: ["10.7.0.1"] },
      { addresses: ["FD00::9"], conditions: { ready: false } },
      { addresses: ["10.7.0.3"], conditions: { ready: true } },
    ];
    const workloads = workloadsOf({ services: [selectorless], endpointSlices: [{ ...SLICE, endpoints }] });
    assert.deepEqual(
      workloads.map(({ uid, addresses, healthy }) => [uid, addresses, healthy]),
      [
        ["Kubernetes/discovery.k8s.io/EndpointSlice/a/web-1/10.7.0.1", ["10.7.0.1"], true],
        ["Kubernetes/discovery.k8s.io/EndpointSlice/a/web-1/10.7.0.3", ["10.7.0.3"], true],
        ["Kubernetes/discovery.k8s.io/EndpointSlice/a/web-1/fd00::9", ["fd00::9"], false],
      ],
    );
    const [one] = workloads;
    assert.deepEqual(one?.services, new Map([[KEY, new Map([[80, 8081]])]]));
    // An address that a pod has stays the pod's: on the host's network it stands for nobody else.
    assert.deepEqual(
      [one?.hostNetwork, one?.protocol, one?.serviceAccount, one?.waypoint],
      [true, "TCP", "", undefined],
    );
  });

  const none: readonly (readonly [string, Partial<KubeEndpointSlice>, readonly KubeService[]])[] = [
    ["of names", { addressType: "FQDN", endpoints: [{ addresses: ["x.example"] }] }, [selectorless]],
    ["of no service", { metadata: { name: "web-1", namespace: "a" } }, [selectorless]],
    ["of a service that is not there", {}, []],
    ["of a service that is another name", {}, [service({ type: "ExternalName" })]],
    ["with an address that is none", { endpoints: [{ addresses: ["x"] }] }, [selectorless]],
    [
      "with pods only",
      { endpoints: [{ addresses: ["10.0.0.1"], targetRef: { kind: "Pod", namespace: "a", name: "p", uid: "u1" } }] },
      [selectorless],
    ],
  ];
  for (const [name, parts, services] of none) {
    it(`${name} is nothing`, () => {
      assert.deepEqual(workloadsOf({ services, endpointSlices: [{ ...SLICE, ...parts }] }), []);
    });
  }

  const refs: readonly (readonly [string, object, KubeService, boolean])[] = [
    ["the pod", { kind: "Pod", namespace: "a", name: "p", uid: "u1" }, selectorless, true],
    ["its predecessor", { kind: "Pod", namespace: "a", name: "p", uid: "u0" }, selectorless, false],
    ["another pod", { kind: "Pod", namespace: "a", name: "q", uid: "u1" }, selectorless, false],
    ["something else", { kind: "Node", namespace: "a", name: "p", uid: "u1" }, selectorless, false],
    [
      "the pod, but the Service selects by itself",
      { kind: "Pod", namespace: "a", name: "p", uid: "u1" },
      service({ selector: { app: "no" } }),
      false,
    ],
  ];
  for (const [name, targetRef, of, expected] of refs) {
    it(`makes ${name} ${expected ? "a" : "no"} member`, () => {
      const endpointSlices = [{ ...SLICE, endpoints: [{ addresses: ["10.0.0.1"], targetRef }] }];
      const workloads = workloadsOf({ pods: [POD], services: [of], endpointSlices });
      const pod = workloads.find(({ uid }) => uid.includes("//Pod/"));
      assert.deepEqual(pod?.services.get(KEY), expected ? new Map([[80, 8081]]) : undefined);
    });
  }

  it("does not reach into another namespace", () => {
    const metadata = { name: "web-1", namespace: "b", labels: { "kubernetes.io/service-name": "web" } };
    const targetRef = { kind: "Pod", namespace: "a", name: "p", uid: "u1" };
    const foreign = { ...selectorless, metadata: { name: "web", namespace: "b" } };
    const endpointSlices = [{ ...SLICE, metadata, endpoints: [{ addresses: ["10.0.0.1"], targetRef }] }];
    assert.deepEqual(workloadsOf({ pods: [POD], services: [foreign], endpointSlices })[0]?.services, new Map());
  });

  it("for each family adds up", () => {
    const targetRef = { kind: "Pod", namespace: "a", name: "p", uid: "u1" };
    const endpoints = [{ addresses: ["10.0.0.1"], targetRef }];
    const other = {
      ...SLICE,
      metadata: { ...SLICE.metadata, name: "web-2" },
      ports: [{ name: "more", port: 9091 }],
      endpoints,
    };
    const [pod] = workloadsOf({
      pods: [POD],
      services: [selectorless],
      endpointSlices: [{ ...SLICE, endpoints }, other],
    });
    assert.deepEqual(
      pod?.services.get(KEY),
      new Map([
        [80, 8081],
        [90, 9091],
      ]),
    );
  });
});

describe("a WorkloadEntry", () => {
  const spec = {
    address: "10.6.0.1",
    network: "net2",
    locality: "r/z",
    weight: 5,
    serviceAccount: "vm",
    ports: { web: 8080, http: 8000 },
    labels: { app: "web" },
  };

  it("becomes a workload", () => {
    const annotations = { "ambient.istio.io/redirection": "enabled", "istio.io/autoRegistrationGroup": "vms" };
    const [workload] = workloadsOf({
      workloadEntries: [workloadEntry(spec, { annotations, labels: { app: "old", version: "v3" } })],
    });
    assert.ok(workload);
    assert.equal(workload.uid, "Kubernetes/networking.istio.io/WorkloadEntry/a/w");
    const {
      addresses,
      network,
      locality,
      capacity,
      serviceAccount,
      workloadName,
      canonicalName,
      canonicalRevision,
      protocol,
    } = workload;
    assert.deepEqual(
      [addresses, network, capacity, serviceAccount, protocol],
      [["10.6.0.1"], "net2", 5, "vm", "HBONE"],
    );
    assert.deepEqual(locality, { region: "r", zone: "z", subzone: "" });
    assert.deepEqual([workloadName, canonicalName, canonicalRevision], ["vms", "web", "v3"]);
  });

  it("is found by name when it has one, and has a weight of one unless it says more", () => {
    const [workload] = workloadsOf({ workloadEntries: [workloadEntry({ address: "vm.example", weight: 0 })] });
    assert.deepEqual([workload?.addresses, workload?.hostname, workload?.capacity], [[], "vm.example", 1]);
    assert.deepEqual([workload?.workloadName, workload?.network, workload?.serviceAccount], ["w", "", "default"]);
  });

  it("without readable address is not sent and says so", () => {
    const { resources, statuses } = convert(world({ workloadEntries: [workloadEntry({ address: "not a name" })] }));
    assert.deepEqual(resources, []);
    assert.deepEqual(
      statuses[0]?.conditions.map(({ type, reason }) => [type, reason]),
      [["ambient.tulle.dev/Accepted", "Invalid"]],
    );
  });

  it("tells of its waypoint by the writer for WorkloadEntries", () => {
    const { statuses } = convert(
      world({ workloadEntries: [workloadEntry(spec, { labels: { "istio.io/use-waypoint": "no" } })] }),
    );
    assert.equal(statuses[0]?.manager, "istio-ambient-workloadentry");
    assert.equal(statuses[0]?.conditions[0]?.reason, "WaypointIsNotReady");
  });

  const cases: readonly (readonly [
    string,
    NonNullable<NonNullable<KubeService["spec"]>["ports"]>[number],
    number | undefined,
  ])[] = [
    ["a name that it has", { name: "x", port: 80, targetPort: "web" }, 8080],
    ["a name that it has not", { name: "x", port: 80, targetPort: "other" }, undefined],
    ["its port by the service port's name", { name: "http", port: 80, targetPort: 81 }, 8000],
    ["else the target port", { name: "x", port: 80, targetPort: 81 }, 81],
    ["else the port", { name: "x", port: 80 }, 80],
  ];
  for (const [name, port, expected] of cases) {
    it(`is a member of Services that select it: ${name}`, () => {
      const services = [service({ selector: { app: "web" }, ports: [port] })];
      const [workload] = workloadsOf({ services, workloadEntries: [workloadEntry(spec)] });
      assert.equal(workload?.services.get(KEY)?.get(80), expected);
    });
  }

  it("is a member of ServiceEntries that select it", () => {
    const own = {
      hosts: ["x.example"],
      resolution: "STATIC",
      ports: [
        { name: "http", number: 80 },
        { name: "y", number: 81 },
      ],
      workloadSelector: { labels: { app: "web" } },
    };
    const serviceEntries = [{ metadata: { name: "e", namespace: "a" }, spec: own }];
    const [workload] = workloadsOf({ serviceEntries, workloadEntries: [workloadEntry(spec)] });
    assert.deepEqual(
      workload?.services,
      new Map([
        [
          "a/x.example",
          new Map([
            [80, 8000],
            [81, 81],
          ]),
        ],
      ]),
    );
  });
});

describe("a network", () => {
  const remote = {
    metadata: { name: "gw", namespace: "istio-system", labels: { "topology.istio.io/network": "net2" } },
    spec: { gatewayClassName: "istio-remote", listeners: [{ port: 15008, protocol: "HBONE" }] },
    status: { addresses: [{ value: "203.0.113.1" }, { type: "Hostname", value: "gw.example" }] },
  };
  const system = (network: string) => ({
    metadata: { name: "istio-system", labels: { "topology.istio.io/network": network } },
  });

  it("is that of the system namespace's label, for workloads and addresses", () => {
    const objects = world({
      namespaces: [system("net1")],
      pods: [POD],
      services: [service({ clusterIP: "10.96.0.1" })],
    });
    const [first, second] = convert(objects).resources;
    assert.ok(first?.kind === "service" && second?.kind === "workload");
    assert.deepEqual([first.service.vips[0]?.network, second.workload.network], ["net1", "net1"]);
  });

  it("that has a gateway is reached through it, and each of its addresses is a workload", () => {
    const workloads = workloadsOf({
      gateways: [remote],
      workloadEntries: [workloadEntry({ address: "10.6.0.1", network: "net2" })],
      pods: [POD],
    });
    const by = new Map(workloads.map((workload) => [workload.name, workload]));
    assert.deepEqual(by.get("w")?.networkGateway, {
      destination: { kind: "address", network: "net2", ip: "203.0.113.1" },
      hboneMtlsPort: 15008,
    });
    assert.equal(by.get("p")?.networkGateway, undefined);
    const gateway = by.get("NetworkGateway/net2/203.0.113.1/15008");
    assert.deepEqual(
      [gateway?.uid, gateway?.serviceAccount, gateway?.addresses],
      [gateway?.name, "gw-istio-remote", ["203.0.113.1"]],
    );
    assert.equal(by.get("NetworkGateway/net2/gw.example/15008")?.hostname, "gw.example");
  });

  it("of the cluster itself is told of its gateway, too", () => {
    const [pod] = workloadsOf({ gateways: [remote], namespaces: [system("net2")], pods: [POD] }).filter(
      ({ name }) => name === "p",
    );
    assert.equal(pod?.networkGateway?.hboneMtlsPort, 15008);
  });

  const none: readonly (readonly [string, object])[] = [
    ["of another class", { ...remote, spec: { ...remote.spec, gatewayClassName: "istio-east-west" } }],
    ["without HBONE listener", { ...remote, spec: { ...remote.spec, listeners: [{ port: 80, protocol: "HTTP" }] } }],
    ["without network", { ...remote, metadata: { name: "gw", namespace: "istio-system" } }],
    ["without address", { ...remote, status: {} }],
    ["with addresses that are no list", { ...remote, status: { addresses: 7 } }],
  ];
  for (const [name, gateway] of none) {
    it(`is not entered by a Gateway ${name}`, () => {
      const workloads = workloadsOf({
        gateways: [gateway],
        workloadEntries: [workloadEntry({ address: "10.6.0.1", network: "net2" })],
      });
      assert.deepEqual(
        workloads.map((one) => [one.name, one.networkGateway]),
        [["w", undefined]],
      );
    });
  }
});

function service(spec: KubeService["spec"], name = "web"): KubeService {
  return { metadata: { name, namespace: "a" }, spec };
}

function workloadEntry(
  spec: KubeWorkloadEntry["spec"],
  metadata: KubeWorkloadEntry["metadata"] = {},
): KubeWorkloadEntry {
  return { metadata: { ...metadata, name: "w", namespace: "a" }, spec };
}

function world(parts: Partial<KubeObjects>): KubeObjects {
  return { namespaces: [], pods: [], services: [], authorizationPolicies: [], peerAuthentications: [], ...parts };
}

function workloadsOf(parts: Partial<KubeObjects>): readonly Workload[] {
  return convert(world(parts)).resources.flatMap((one) => (one.kind === "workload" ? [one.workload] : []));
}
