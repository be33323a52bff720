import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { resourceKey } from "../resource-log.ts";
import { ServiceIndex } from "../service-index.ts";
import { encodeResource } from "../wds.ts";
import { DEFAULT_MESH_SETTINGS, type MeshObjectKind } from "./context.ts";
import type { KubeObjectLike, Labels } from "./kubernetes.ts";
import type { MeshChanges } from "./ledger.ts";
import { MeshIndex } from "./mesh-index.ts";

const NAMESPACES = 5;
const PODS = 40;
const NODES = 10;

describe("a change costs what depends on it", () => {
  const pod = (app: string, more: object = {}) => podObject("ns1", "p7", "10.0.1.7", { app, ...more });
  const cases: readonly (readonly [string, MeshObjectKind, KubeObjectLike, conversions: number])[] = [
    ["a pod: itself", "Pod", pod("app1", { version: "v2" }), 1],
    ["a pod's address: itself, and whom it belonged to", "Pod", podObject("ns1", "p7", "10.9.9.9", { app: "app1" }), 1],
    [
      "a Service's ports: itself and the pods that it selects",
      "Service",
      serviceObject("ns1", "s1", { app: "app1" }, 81),
      1 + PODS / 4,
    ],
    [
      "a Service's labels: itself",
      "Service",
      {
        ...serviceObject("ns1", "s1", { app: "app1" }),
        metadata: { name: "s1", namespace: "ns1", labels: { a: "b" } },
      },
      1,
    ],
    [
      "a Service's selector: itself, whom it selected, whom it selects",
      "Service",
      serviceObject("ns1", "s1", { app: "app2" }),
      1 + PODS / 2,
    ],
    ["a namespace's labels: what is in it", "Namespace", { metadata: { name: "ns1", labels: { a: "b" } } }, PODS + 4],
    [
      "a node's labels: its pods",
      "Node",
      { metadata: { name: "n1", labels: { "topology.kubernetes.io/zone": "z" } } },
      (NAMESPACES * PODS) / NODES,
    ],
    ["a node's heartbeat: nothing", "Node", { metadata: { name: "n1", annotations: { beat: "2" } } }, 0],
    [
      "a policy that selects: itself and the pods that it selects",
      "AuthorizationPolicy",
      policyObject("ns1", { app: "app1" }),
      1 + PODS / 4,
    ],
    [
      "a policy of the root namespace: pods of all namespaces that it selects",
      "AuthorizationPolicy",
      policyObject("istio-system", { app: "app1" }),
      1 + (NAMESPACES * PODS) / 4,
    ],
    ["a policy without selector: itself", "AuthorizationPolicy", policyObject("ns1", undefined), 1],
    [
      "mutual TLS of a namespace: the pods in it",
      "PeerAuthentication",
      { metadata: { name: "m", namespace: "ns1" }, spec: { mtls: { mode: "STRICT" } } },
      PODS,
    ],
    ["a waypoint: what names it", "Gateway", gatewayObject("ns2", "wp"), 1],
    ["a Gateway that nobody names: nothing", "Gateway", gatewayObject("ns2", "other"), 0],
    [
      "a slice: itself",
      "EndpointSlice",
      { metadata: { name: "x", namespace: "ns1", labels: { "kubernetes.io/service-name": "s1" } } },
      1,
    ],
  ];
  it("a pod within ranges that entries want: itself, and the entries only when it decides about them", () => {
    const index = world();
    for (let i = 0; i < 50; i++) index.put("ServiceEntry", rangeEntry("evil", `e${i}`, "10.0.0.0/8"));
    index.flush();
    const cost = (change: () => void) => {
      const before = index.sizes.conversions;
      change();
      index.flush();
      return index.sizes.conversions - before;
    };
    // Pods of five other namespaces are in it already.
    assert.equal(
      cost(() => index.put("Pod", podObject("ns1", "new", "10.0.9.1", {}))),
      1,
    );
    assert.equal(
      cost(() => index.remove("Pod", "ns1", "new")),
      1,
    );
  });

  for (const [name, kind, object, expected] of cases) {
    it(name, () => {
      const index = world();
      index.flush();
      const before = index.sizes.conversions;
      index.put(kind, object);
      index.flush();
      assert.equal(index.sizes.conversions - before, expected);
    });
  }

  it("an object that is given again unchanged is told of no more", () => {
    const index = world();
    index.flush();
    index.put("Pod", podObject("ns1", "p7", "10.0.1.7", { app: "app3" }));
    index.put("Service", serviceObject("ns1", "s1", { app: "app1" }));
    assert.deepEqual(index.flush(), { puts: [], removes: [], statuses: [] });
  });
});

describe("what a flush tells", () => {
  it("is policies before services before workloads, and removals the other way round", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    index.put("Pod", podObject("a", "p", "10.0.0.1", { app: "x" }));
    index.put("Service", serviceObject("a", "s", { app: "x" }));
    index.put("AuthorizationPolicy", policyObject("a", { app: "x" }));
    assert.deepEqual(shown(index.flush()), [
      "+policy a/p",
      "+service a/s.a.svc.cluster.local",
      "+workload Kubernetes//Pod/a/p",
    ]);
    for (const [kind, name] of [
      ["AuthorizationPolicy", "p"],
      ["Service", "s"],
      ["Pod", "p"],
    ] as const)
      index.remove(kind, "a", name);
    assert.deepEqual(shown(index.flush()), [
      "-workload Kubernetes//Pod/a/p",
      "-service a/s.a.svc.cluster.local",
      "-policy a/p",
    ]);
    assert.deepEqual(index.sizes.resources, { workload: 0, service: 0, policy: 0 });
  });

  it("is a put and no removal when a hostname changes hands", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const entry = (name: string, day: number) => ({
      metadata: { name, namespace: "a", creationTimestamp: `2026-01-0${day}T00:00:00Z` },
      spec: { hosts: ["x.example"], resolution: "NONE" },
    });
    index.put("ServiceEntry", entry("old", 1));
    index.put("ServiceEntry", entry("new", 2));
    index.flush();
    index.remove("ServiceEntry", "a", "old");
    const { puts, removes, statuses } = index.flush();
    assert.deepEqual(
      puts.map((put) => put.kind === "service" && put.service.name),
      ["new"],
    );
    assert.deepEqual(removes, []);
    assert.deepEqual(
      statuses.map(({ name, conditions }) => [name, conditions]),
      [["new", []]],
    );
  });

  it("is no range that would take the connections to another namespace's pod, from the pod's first to its last moment", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const services = new ServiceIndex();
    const said: unknown[] = [];
    /** As a node proxy takes it in; tells whose the pod's address is for a client of a third namespace. */
    const followed = () => {
      const { puts, statuses } = index.flush();
      for (const put of puts) if (put.kind === "service") services.put(put.service);
      said.push(...statuses.map(({ name, conditions }) => [name, conditions[0]?.message]));
      return services.byVip("", "10.0.0.1", "client")?.namespace;
    };
    index.put("ServiceEntry", rangeEntry("evil", "e", "10.0.0.0/16"));
    assert.equal(followed(), "evil");
    index.put("Pod", podObject("a", "p", "10.0.0.1", {}));
    assert.equal(followed(), undefined);
    index.put("Pod", podObject("a", "q", "10.0.0.2", {}));
    index.remove("Pod", "a", "p");
    assert.equal(followed(), undefined);
    index.remove("Pod", "a", "q");
    assert.equal(followed(), "evil");
    const conflict = 'range 10.0.0.0/16 of "e.example" holds addresses of Pods of namespace a; it is not sent';
    assert.deepEqual(said, [
      ["e", conflict],
      ["e", undefined],
    ]);
    index.put("Service", { metadata: { name: "s", namespace: "b" }, spec: { clusterIP: "10.0.200.1" } });
    index.put("WorkloadEntry", { metadata: { name: "w", namespace: "b" }, spec: { address: "10.0.200.2" } });
    assert.equal(followed(), undefined);
    index.remove("Service", "b", "s");
    // The WorkloadEntry has no age, which is older than any.
    assert.equal(followed(), undefined);
    index.remove("WorkloadEntry", "b", "w");
    assert.equal(followed(), "evil");
  });

  it("counts pods and Services of namespaces that no discovery selector selects: their addresses are theirs", () => {
    const discoverySelectors = [{ matchLabels: { mesh: "on" } }];
    const index = new MeshIndex({ ...DEFAULT_MESH_SETTINGS, discoverySelectors });
    index.put("Namespace", { metadata: { name: "evil", labels: { mesh: "on" } } });
    index.put("Pod", podObject("a", "p", "10.0.0.1", {}));
    index.put("Service", { metadata: { name: "s", namespace: "a" }, spec: { clusterIP: "10.96.0.1" } });
    for (const [i, address] of ["10.0.0.1", "10.0.0.0/24", "10.96.0.1", "10.96.0.0/24"].entries()) {
      index.put("ServiceEntry", rangeEntry("evil", `e${i}`, address));
    }
    const taken = index.flush().puts.flatMap((put) => (put.kind === "service" ? [put.service] : []));
    assert.deepEqual(
      taken.map(({ name, vips, cidrVips }) => [name, vips.length + cidrVips.length]),
      [
        ["e1", 0],
        ["e3", 0],
      ],
    );
  });

  it("follows a waypoint from missing to ready to gone", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const labels = { "istio.io/use-waypoint": "wp" };
    index.put("Service", {
      ...serviceObject("a", "s", {}),
      metadata: { name: "s", namespace: "a", generation: 7, labels },
    });
    const said = () =>
      index.flush().statuses.map(({ conditions, generation, manager }) => [conditions[0]?.reason, generation, manager]);
    assert.deepEqual(said(), [["WaypointIsNotReady", 7, "istio-ambient-service"]]);
    index.put("Gateway", gatewayObject("a", "wp"));
    assert.deepEqual(said(), [["WaypointAccepted", 7, "istio-ambient-service"]]);
    index.remove("Gateway", "a", "wp");
    assert.deepEqual(said(), [["WaypointIsNotReady", 7, "istio-ambient-service"]]);
    index.put("Service", serviceObject("a", "s", {}));
    assert.deepEqual(said(), [[undefined, undefined, "istio-ambient-service"]]);
    index.remove("Service", "a", "s");
    assert.deepEqual(said(), []);
  });

  it("takes back what a former process said", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const status = { conditions: [{ type: "istio.io/WaypointBound", status: "True" }] };
    index.put("Service", { ...serviceObject("a", "s", {}), status });
    index.put("Service", { ...serviceObject("a", "t", {}), status: { conditions: [{ type: "Other" }] } });
    assert.deepEqual(
      index.flush().statuses.map(({ name, conditions }) => [name, conditions]),
      [["s", []]],
    );
    index.put("Service", { ...serviceObject("a", "s", {}), status: {} });
    assert.deepEqual(index.flush().statuses, []);
  });

  it("says it again of an object that was made anew", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const made = (uid: string) => {
      const metadata = { name: "s", namespace: "a", uid, labels: { "istio.io/use-waypoint": "wp" } };
      index.put("Service", { ...serviceObject("a", "s", {}), metadata });
      index.put("PeerAuthentication", { metadata: { name: "m", namespace: "a", uid }, spec: {} });
      return index.flush().statuses.map(({ kind }) => kind);
    };
    assert.deepEqual(made("u1"), ["PeerAuthentication", "Service"]);
    assert.deepEqual(made("u1"), []);
    assert.deepEqual(made("u2"), ["PeerAuthentication", "Service"]);
  });

  it("is the policies that stand for mutual TLS, as they come and go", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const spec = { selector: { matchLabels: { app: "x" } }, mtls: { mode: "STRICT" } };
    const put = (uid: string, ports: object) => {
      index.put("PeerAuthentication", { metadata: { name: "m", namespace: "a", uid }, spec: { ...spec, ...ports } });
      return shown(index.flush());
    };
    const exempt = { portLevelMtls: { "80": { mode: "DISABLE" } } };
    const [converted, fixed] = [
      "policy a/converted_peer_authentication_m",
      "policy istio-system/istio_converted_static_strict",
    ];
    assert.deepEqual(put("u1", exempt), [`+${converted}`, `+${fixed}`]);
    assert.deepEqual(put("u1", {}), [`-${converted}`]);
    assert.deepEqual(put("u1", exempt), [`+${converted}`]);
    assert.deepEqual(put("u2", {}), [`-${converted}`]);
    index.remove("PeerAuthentication", "a", "m");
    assert.deepEqual(shown(index.flush()), [`-${fixed}`]);
  });

  it("tells a policy's new generation, though its conditions are the same", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    const policy = (generation: number) => ({ metadata: { name: "p", namespace: "a", generation }, spec: {} });
    index.put("AuthorizationPolicy", policy(1));
    index.flush();
    index.put("AuthorizationPolicy", policy(2));
    assert.deepEqual(
      index.flush().statuses.map(({ generation }) => generation),
      [2],
    );
  });

  it("leaves out what no discovery selector selects, until one does", () => {
    const discoverySelectors = [{ matchExpressions: [{ key: "mesh", operator: "NotIn", values: ["off"] }] }];
    const index = new MeshIndex({ ...DEFAULT_MESH_SETTINGS, discoverySelectors });
    const namespace = (mesh: string) => ({ metadata: { name: "a", labels: { mesh } } });
    index.put("Namespace", namespace("off"));
    index.put("Pod", podObject("a", "p", "10.0.0.1", {}));
    index.put("Service", serviceObject("a", "s", {}));
    index.put("Pod", podObject("b", "q", "10.0.0.2", {}));
    assert.deepEqual(shown(index.flush()), ["+workload Kubernetes//Pod/b/q"]);
    index.put("Namespace", namespace("on"));
    assert.deepEqual(shown(index.flush()), ["+service a/s.a.svc.cluster.local", "+workload Kubernetes//Pod/a/p"]);
    index.put("Namespace", namespace("off"));
    assert.deepEqual(shown(index.flush()), ["-workload Kubernetes//Pod/a/p", "-service a/s.a.svc.cluster.local"]);
  });

  it("is nothing that cannot be encoded: who says a number that is none is told so, and its neighbours go on", () => {
    const entry = (spec: object) => ({
      metadata: { name: "e", namespace: "a" },
      spec: { hosts: ["x.example"], ...spec },
    });
    const endpoints = [{ address: "10.1.0.1" }];
    for (const [what, kind, object] of [
      ["a Service's port", "Service", serviceObject("a", "s", { app: "x" }, 70_000)],
      ["a fraction", "Service", serviceObject("a", "s", { app: "x" }, 1.5)],
      [
        "a target",
        "Service",
        {
          metadata: { name: "s", namespace: "a" },
          spec: { selector: { app: "x" }, ports: [{ port: 80, targetPort: -1 }] },
        },
      ],
      ["an entry's port", "ServiceEntry", entry({ ports: [{ number: 1e10 }], resolution: "STATIC", endpoints })],
      ["an entry's target", "ServiceEntry", entry({ ports: [{ number: 80, targetPort: -1 }] })],
      ["a weight", "WorkloadEntry", entry({ address: "10.1.0.1", weight: 1e10 })],
    ] as const) {
      const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
      index.put("Pod", podObject("a", "p", "10.0.0.1", { app: "x" }));
      index.put(kind, object);
      const { puts, statuses } = index.flush();
      for (const put of puts) encodeResource(put);
      assert.deepEqual(
        puts.map((put) => resourceKey(put)),
        ["Kubernetes//Pod/a/p"],
        what,
      );
      const said = statuses.map(({ conditions }) => conditions[0]);
      assert.deepEqual(
        said.map((one) => [one?.type, one?.reason]),
        [["ambient.tulle.dev/Accepted", "Invalid"]],
        what,
      );
      assert.match(said[0]?.message ?? "", /is no port|is none/);
    }
  });

  it("is nothing of what is labelled for another control plane", () => {
    const index = new MeshIndex({ ...DEFAULT_MESH_SETTINGS, revision: "mine" });
    const metadata = (rev?: string) => ({
      name: "x",
      namespace: "a",
      labels: rev === undefined ? {} : { "istio.io/rev": rev },
    });
    const put = (rev?: string) => {
      index.put("AuthorizationPolicy", { metadata: metadata(rev) });
      index.put("PeerAuthentication", { metadata: metadata(rev) });
      index.put("ServiceEntry", { metadata: metadata(rev), spec: { hosts: ["x.example"] } });
      index.put("WorkloadEntry", { metadata: metadata(rev), spec: { address: "10.0.0.1" } });
      index.put("Pod", podObject("a", "p", "10.0.0.2", { "istio.io/rev": "other" }));
      const { puts, removes } = index.flush();
      return [puts.length, removes.length];
    };
    assert.deepEqual(put("other"), [1, 0]);
    assert.deepEqual(put("mine"), [4, 0]);
    assert.deepEqual(put("other"), [0, 4]);
    assert.deepEqual(put(), [4, 0]);
  });

  it("is everything that a new configuration changes", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    index.put("Pod", podObject("a", "p", "10.0.0.1", {}));
    index.flush();
    index.reconfigure({ ...DEFAULT_MESH_SETTINGS, clusterId: "c2" });
    assert.deepEqual(shown(index.flush()), ["+workload c2//Pod/a/p", "-workload Kubernetes//Pod/a/p"]);
    index.reconfigure({ ...DEFAULT_MESH_SETTINGS, clusterId: "c2" });
    assert.deepEqual(shown(index.flush()), []);
  });
});

/** Five namespaces of forty pods and four services, on ten nodes; one service asks for a waypoint. */
function world(): MeshIndex {
  const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
  for (let node = 0; node < NODES; node++) index.put("Node", { metadata: { name: `n${node}` } });
  for (let ns = 0; ns < NAMESPACES; ns++) {
    index.put("Namespace", { metadata: { name: `ns${ns}` } });
    for (let s = 0; s < 4; s++) index.put("Service", serviceObject(`ns${ns}`, `s${s}`, { app: `app${s}` }));
    for (let p = 0; p < PODS; p++)
      index.put("Pod", podObject(`ns${ns}`, `p${p}`, `10.0.${ns}.${p}`, { app: `app${p % 4}` }));
  }
  const labels = { "istio.io/use-waypoint": "wp" };
  index.put("Service", { metadata: { name: "s0", namespace: "ns2", labels }, spec: { ports: [{ port: 80 }] } });
  return index;
}

function podObject(namespace: string, name: string, podIP: string, labels: Labels): KubeObjectLike {
  const nodeName = `n${Number(name.slice(1)) % NODES || 0}`;
  return { metadata: { name, namespace, labels }, spec: { nodeName }, status: { phase: "Running", podIP } };
}

function serviceObject(namespace: string, name: string, selector: Labels, port = 80): KubeObjectLike {
  return { metadata: { name, namespace }, spec: { selector, ports: [{ port }] } };
}

function rangeEntry(namespace: string, name: string, address: string): KubeObjectLike {
  const metadata = { name, namespace, creationTimestamp: "2026-01-01T00:00:00Z" };
  return { metadata, spec: { hosts: [`${name}.example`], addresses: [address], resolution: "STATIC" } };
}

function policyObject(namespace: string, matchLabels: Labels | undefined): KubeObjectLike {
  return { metadata: { name: "p", namespace }, spec: matchLabels && { selector: { matchLabels } } };
}

function gatewayObject(namespace: string, name: string): KubeObjectLike {
  return { metadata: { name, namespace }, status: { addresses: [{ value: "10.9.0.1" }] } };
}

function shown({ puts, removes }: MeshChanges): readonly string[] {
  return [
    ...puts.map((put) => `+${put.kind} ${resourceKey(put)}`),
    ...removes.map(({ kind, key }) => `-${kind} ${key}`),
  ];
}
