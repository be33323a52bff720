import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type PutChange, resourceKey } from "../resource-log.ts";
import { encodeResource } from "../wds.ts";
import { DEFAULT_MESH_SETTINGS, type MeshObjectKind, type MeshSettings, type ObjectStatus } from "./context.ts";
import { type KubeObjectLike, nameOf, namespaceOf } from "./kubernetes.ts";
import type { MeshChanges } from "./ledger.ts";
import { MeshIndex } from "./mesh-index.ts";
import { same } from "./same.ts";

/** Few names and addresses, so that objects meet. */
const NAMESPACES = ["istio-system", "a", "b"];
const IPS = ["10.0.0.1", "10.0.0.2", "fd00::1"];
/** Around all of them, some, none. */
const RANGES = ["10.0.0.0/8", "10.0.0.2/31", "fd00::/64", "10.1.2.3/16"];
const RUNS = 40;
/** So many objects are there at the start, and so many changes follow, each looked at by itself. */
const OBJECTS = 60;
const CHANGES = 60;

type Step =
  | { readonly kind: "put"; readonly of: MeshObjectKind; readonly object: KubeObjectLike }
  | { readonly kind: "remove"; readonly of: MeshObjectKind; readonly namespace: string; readonly name: string }
  | { readonly kind: "settings"; readonly settings: MeshSettings };

const namespace = fc.constantFrom(...NAMESPACES, "a", "b");
const ip = fc.constantFrom(...IPS);
const name = fc.constantFrom("s", "t");
const created = fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });

const waypointLabels = fc.record(
  {
    app: fc.constantFrom("x", "y"),
    "kubernetes.io/service-name": name,
    "istio.io/use-waypoint": fc.constantFrom("g", "h", "none"),
    "istio.io/use-waypoint-namespace": namespace,
    "istio.io/use-waypoint-canary": fc.constantFrom("g", "h"),
    "istio.io/ingress-use-waypoint": fc.constantFrom("true", "no"),
    "gateway.networking.k8s.io/gateway-name": fc.constantFrom("g", "h"),
    "topology.istio.io/network": fc.constantFrom("net1", "net2"),
    "istio.io/waypoint-for": fc.constantFrom("service", "workload", "all", "none"),
  },
  { requiredKeys: ["app", "kubernetes.io/service-name"] },
);
const annotations = fc.record(
  {
    "ambient.istio.io/redirection": fc.constant("enabled"),
    "ambient.tulle.dev/waypoint-optional": fc.constantFrom("true", "false"),
    "ambient.istio.io/waypoint-inbound-binding": fc.constantFrom("PROXY/15088", "NONE", "X"),
    "networking.istio.io/traffic-distribution": fc.constantFrom("PreferClose", "Any"),
    "istio.io/use-waypoint-canary-weight": fc.constantFrom("10", "x"),
  },
  { requiredKeys: [] },
);
const metadata = fc.record({
  name,
  namespace,
  labels: waypointLabels,
  annotations,
  creationTimestamp: created,
  generation: fc.constantFrom(1, 2),
});
const clusterScoped = (names: fc.Arbitrary<string>) => fc.record({ name: names, labels: waypointLabels, annotations });
const selector = fc.constantFrom<Record<string, string>>({}, { app: "x" }, { app: "y" });
const endpoint = fc.record({
  address: fc.oneof(ip, fc.constantFrom("one.example", "not a name")),
  network: maybe(fc.constantFrom("net1", "net2")),
  labels: waypointLabels,
  ports: maybe(fc.constantFrom({ http: 8080 }, { http: 1e10 })),
  weight: maybe(fc.constantFrom(1, 2, 1e10)),
});

const target = fc.oneof(
  fc.record({ group: fc.constant(""), kind: fc.constant("Service"), name }),
  fc.record({ group: fc.constant("networking.istio.io"), kind: fc.constant("ServiceEntry"), name }),
  fc.record({
    group: fc.constant("gateway.networking.k8s.io"),
    kind: fc.constantFrom("Gateway", "GatewayClass"),
    name: fc.constantFrom("g", "h", "istio-waypoint"),
  }),
);

const objects: Readonly<Record<MeshObjectKind, fc.Arbitrary<unknown>>> = {
  Namespace: fc.record({ metadata: clusterScoped(namespace) }),
  Node: fc.record({
    metadata: fc.record({
      name: fc.constantFrom("n1", "n2"),
      labels: fc.record({ "topology.kubernetes.io/zone": fc.constantFrom("z1", "z2") }),
    }),
  }),
  Pod: fc.record({
    metadata: fc.tuple(metadata, fc.constantFrom("u1", "u1", "u2")).map(([meta, uid]) => ({ ...meta, uid })),
    spec: fc.record({ nodeName: fc.constantFrom("n1", "n2"), hostNetwork: fc.boolean() }),
    status: fc.record({ phase: fc.constantFrom("Running", "Running", "Running", "Failed"), podIP: ip }),
  }),
  Service: fc.record({
    metadata,
    spec: fc.record({
      clusterIP: fc.oneof(ip, fc.constant("None")),
      type: fc.constantFrom("ClusterIP", "ClusterIP", "ClusterIP", "ExternalName"),
      selector,
      ports: fc.constantFrom(
        [{ name: "http", port: 80 }],
        [{ name: "http", port: 80 }],
        [{ name: "http", port: 81 }],
        [{ name: "http", port: 80, targetPort: -1 }],
        [{ name: "http", port: 70_000 }],
        "broken",
      ),
    }),
  }),
  EndpointSlice: metadata.chain((meta) =>
    fc.record({
      metadata: fc.constant(meta),
      ports: fc.constant([{ name: "http", port: 8080 }]),
      endpoints: fc.array(
        fc.record({
          addresses: fc.tuple(ip),
          targetRef: maybe(
            fc.record({
              kind: fc.constant("Pod"),
              namespace: fc.constantFrom(meta.namespace, "a"),
              name,
              uid: fc.constant("u1"),
            }),
          ),
        }),
        { minLength: 1, maxLength: 2 },
      ),
    }),
  ),
  ServiceEntry: fc.record({
    metadata,
    spec: fc.record({
      hosts: fc.uniqueArray(fc.constantFrom("one.example", "*.example", "s.a.svc.cluster.local"), {
        minLength: 1,
        maxLength: 2,
      }),
      addresses: maybe(fc.uniqueArray(fc.constantFrom(...IPS, ...RANGES, "bad"), { maxLength: 2 })),
      resolution: fc.constantFrom("NONE", "STATIC", "DNS", "DYNAMIC_DNS"),
      ports: fc.constantFrom(80, 80, 80, 1.5).map((number) => [{ name: "http", number, protocol: "HTTP" }]),
      endpoints: maybe(fc.array(endpoint, { maxLength: 2 })),
      workloadSelector: maybe(fc.record({ labels: selector })),
    }),
    status: maybe(fc.record({ addresses: fc.array(fc.record({ value: ip, host: fc.constant("one.example") })) })),
  }),
  WorkloadEntry: fc.record({ metadata, spec: endpoint }),
  Gateway: fc.record({
    metadata: fc.tuple(metadata, fc.constantFrom("g", "h")).map(([meta, own]) => ({ ...meta, name: own })),
    spec: fc.record({
      gatewayClassName: fc.constantFrom("istio-waypoint", "istio-remote"),
      listeners: fc.constantFrom(
        [{ port: 15008, protocol: "HBONE" }],
        [{ port: 15008, protocol: "HBONE", allowedRoutes: { namespaces: { from: "All" } } }],
        [
          {
            port: 15008,
            protocol: "HBONE",
            allowedRoutes: { namespaces: { from: "Selector", selector: { matchLabels: { app: "x" } } } },
          },
        ],
      ),
    }),
    status: maybe(fc.record({ addresses: fc.array(fc.record({ value: ip }), { maxLength: 1 }) })),
  }),
  GatewayClass: fc.record({
    metadata: clusterScoped(fc.constantFrom("istio-waypoint", "istio-remote")),
    spec: fc.record({ controllerName: fc.constantFrom("istio.io/mesh-controller", "istio.io/gateway-controller") }),
  }),
  AuthorizationPolicy: fc.record({
    metadata,
    spec: fc.record({
      action: fc.constantFrom("ALLOW", "DENY", "AUDIT"),
      selector: maybe(fc.record({ matchLabels: selector })),
      rules: fc.constantFrom([], [{}], [{ to: [{ operation: { methods: ["GET"] } }] }]),
      targetRefs: maybe(fc.array(target, { minLength: 1, maxLength: 2 })),
    }),
  }),
  PeerAuthentication: fc.record({
    metadata,
    spec: fc.record({
      mtls: fc.record({ mode: fc.constantFrom("STRICT", "PERMISSIVE", "UNSET") }),
      selector: maybe(fc.record({ matchLabels: selector })),
      portLevelMtls: maybe(fc.constant({ "80": { mode: "DISABLE" } })),
    }),
  }),
};

const KINDS = Object.keys(objects) as MeshObjectKind[];
const settings = fc.constantFrom<MeshSettings>(
  DEFAULT_MESH_SETTINGS,
  { ...DEFAULT_MESH_SETTINGS, discoverySelectors: [{ matchLabels: { app: "x" } }] },
  {
    ...DEFAULT_MESH_SETTINGS,
    serviceEntryVisibility: {
      defaultVisibility: "NAMESPACE",
      policies: [
        { visibility: "PUBLIC", matchingRules: [{ namespaceSelector: { matchLabels: { app: "x" } } }] },
        { visibility: "NONE", matchingRules: [{ namespaceSelector: { matchLabels: { app: "y" } } }] },
      ],
    },
  },
);

const put = fc
  .constantFrom(...KINDS)
  .chain((of) => objects[of].map((object): Step => ({ kind: "put", of, object: object as KubeObjectLike })));
const remove = fc
  .record({ of: fc.constantFrom(...KINDS), namespace, name: fc.constantFrom("s", "t", "g", "h", "n1") })
  .map((of): Step => ({ kind: "remove", ...of }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 20, arbitrary: put },
  { weight: 8, arbitrary: remove },
  { weight: 1, arbitrary: settings.map((value): Step => ({ kind: "settings", settings: value })) },
);

function many<T>(of: fc.Arbitrary<T>, count: number): fc.Arbitrary<T[]> {
  return fc.array(of, { minLength: 0, maxLength: count, size: "max" });
}

describe("a mesh that is followed", () => {
  it("is at every moment what it would be from scratch, and nothing is told twice", () => {
    fc.assert(
      fc.property(
        settings,
        many(put, OBJECTS),
        many(step, CHANGES),
        fc.infiniteStream(fc.nat(3)),
        (start, world, steps, dice) => {
          const follower = new Follower(start);
          for (const one of world) follower.take(one);
          for (const one of steps) {
            follower.take(one);
            // Now and then several changes come together.
            if (dice.next().value !== 0) follower.compare();
          }
          follower.compare();
        },
      ),
      { numRuns: RUNS },
    );
  });

  it("takes in anything, and goes on with the rest", () => {
    const labels = fc.oneof(fc.jsonValue(), waypointLabels);
    const field = fc.constantFrom(
      ...["hosts", "addresses", "ports", "endpoints", "workloadSelector", "selector", "listeners", "clusterIPs"],
      ...["podIPs", "conditions", "gatewayClassName", "containers", "targetRef", "resolution", "rules", "mtls"],
    );
    const part = fc.oneof(fc.jsonValue(), fc.dictionary(field, fc.jsonValue(), { maxKeys: 4 }));
    const meta = fc.record({ name, namespace: fc.constantFrom("a", "b"), labels, annotations: fc.jsonValue() });
    const garbage = fc.record({
      metadata: meta,
      spec: part,
      status: part,
      endpoints: fc.jsonValue(),
      ports: fc.jsonValue(),
    });
    const pod = { metadata: { name: "good", namespace: "a" }, status: { phase: "Running", podIP: "10.0.0.9" } };
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...KINDS), garbage), { size: "max", maxLength: 20 }), (list) => {
        const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
        for (const [kind, object] of list) index.put(kind, object as KubeObjectLike);
        for (const change of index.flush().puts) encodeResource(change);
        for (const [kind, object] of list) index.put(kind, { ...object, spec: {} } as KubeObjectLike);
        index.put("Pod", pod);
        const { puts } = index.flush();
        assert.ok(puts.some((one) => resourceKey(one) === "Kubernetes//Pod/a/good"));
      }),
      { numRuns: RUNS * 4 },
    );
  });
});

/** Adds up what the index tells, and compares it with a new index that is given everything at once. */
class Follower {
  readonly #index: MeshIndex;
  readonly #objects = new Map<string, { readonly of: MeshObjectKind; readonly object: KubeObjectLike }>();
  readonly #told = new Told();
  #settings: MeshSettings;
  #uids: ReadonlyMap<string, string | undefined> = new Map();

  constructor(settings: MeshSettings) {
    this.#index = new MeshIndex(settings);
    this.#settings = settings;
  }

  take(step: Step): void {
    switch (step.kind) {
      case "put":
        this.#objects.set(idOf(step.of, step.object), { of: step.of, object: step.object });
        this.#index.put(step.of, step.object);
        return;
      case "remove": {
        const home = CLUSTER_SCOPED.has(step.of) ? "" : step.namespace;
        this.#objects.delete(`${step.of} ${home}/${step.name}`);
        this.#index.remove(step.of, home, step.name);
        return;
      }
      case "settings":
        this.#settings = step.settings;
        this.#index.reconfigure(step.settings);
        return;
      default:
        step satisfies never;
    }
  }

  compare(): void {
    for (const [id, { object }] of this.#objects) {
      const uid = object.metadata?.uid;
      // Another object by the same name has no conditions yet.
      if (this.#uids.has(id) && this.#uids.get(id) !== uid) this.#told.forgetStatus(id);
    }
    this.#uids = new Map([...this.#objects].map(([id, { object }]) => [id, object.metadata?.uid]));
    const changes = this.#index.flush();
    for (const change of changes.puts) encodeResource(change);
    this.#told.add(changes, new Set(this.#objects.keys()));
    const scratch = new MeshIndex(this.#settings);
    for (const { of, object } of this.#objects.values()) scratch.put(of, object);
    const expected = new Told();
    expected.add(scratch.flush(), new Set(this.#objects.keys()));
    assert.deepEqual(this.#told.resources(), expected.resources());
    assert.deepEqual(this.#told.statuses(), expected.statuses());
    assert.deepEqual(this.#index.sizes.resources, scratch.sizes.resources);
  }
}

const CLUSTER_SCOPED: ReadonlySet<string> = new Set(["Namespace", "Node", "GatewayClass"]);

class Told {
  readonly #resources = new Map<string, PutChange>();
  readonly #statuses = new Map<string, ObjectStatus>();

  add({ puts, removes, statuses }: MeshChanges, objects: ReadonlySet<string>): void {
    for (const change of puts) {
      const id = `${change.kind} ${resourceKey(change)}`;
      assert.ok(!same(this.#resources.get(id), change), `${id} is told twice`);
      this.#resources.set(id, change);
    }
    for (const { kind, key } of removes) assert.ok(this.#resources.delete(`${kind} ${key}`), `${key} was not there`);
    for (const id of this.#statuses.keys()) if (!objects.has(id)) this.#statuses.delete(id);
    for (const status of statuses) {
      const id = `${status.kind} ${status.namespace}/${status.name}`;
      assert.ok(objects.has(id), `${id} is gone`);
      if (status.conditions.length === 0) this.#statuses.delete(id);
      else this.#statuses.set(id, status);
    }
  }

  forgetStatus(id: string): void {
    this.#statuses.delete(id);
  }

  resources() {
    return [...this.#resources].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** Only policies' conditions carry the generation. */
  statuses() {
    const sorted = [...this.#statuses].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.map(([id, { generation, manager, conditions }]) => [
      id,
      manager,
      conditions,
      manager === "istio-ambient-ztunnel-policy" ? generation : 0,
    ]);
  }
}

function idOf(of: MeshObjectKind, object: KubeObjectLike): string {
  return `${of} ${namespaceOf(object)}/${nameOf(object)}`;
}
