import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { convert, type KubeObjects } from "../convert.ts";
import type { Service, Workload } from "../model.ts";
import { DEFAULT_MESH_SETTINGS, type MeshSettings } from "./context.ts";
import type { KubeServiceEntry } from "./istio-objects.ts";
import type { KubePod } from "./kubernetes.ts";

const HTTP = { name: "http", number: 80, protocol: "HTTP" };

describe("a ServiceEntry", () => {
  it("is a service for each of its hosts", () => {
    const services = servicesOf([
      entry("e", {
        hosts: ["one.example", "TWO.example"],
        addresses: ["10.1.0.1", "10.2.3.4/16", "fd00::7/64", "10.1.0.2/32"],
        ports: [
          HTTP,
          { name: "tls", number: 443, protocol: "TLS", targetPort: 8443 },
          { name: "m", number: 90, protocol: "MONGO" },
        ],
        subjectAltNames: ["spiffe://cluster.local/ns/a/sa/b"],
        resolution: "STATIC",
      }),
    ]);
    assert.deepEqual(
      services.map(({ hostname, namespace, name }) => [hostname, namespace, name]),
      [
        ["one.example", "a", "e"],
        ["two.example", "a", "e"],
      ],
    );
    const [one] = services;
    assert.ok(one);
    assert.deepEqual(
      one.vips.map(({ ip }) => ip),
      ["10.1.0.1", "10.1.0.2"],
    );
    assert.deepEqual(
      one.cidrVips.map(({ cidr }) => `${cidr.ip}/${cidr.bits}`),
      ["10.2.0.0/16", "fd00::/64"],
    );
    assert.deepEqual(
      one.ports,
      new Map([
        [80, 80],
        [90, 90],
        [443, 8443],
      ]),
    );
    assert.deepEqual(
      one.appProtocols,
      new Map([
        [80, "HTTP11"],
        [443, "TLS"],
      ] as const),
    );
    assert.deepEqual(one.subjectAltNames, ["spiffe://cluster.local/ns/a/sa/b"]);
    assert.deepEqual(
      [one.loadBalancer, one.ipFamilies, one.canonical, one.visibility],
      [undefined, undefined, true, "Public"],
    );
  });

  const allocated = {
    status: {
      addresses: [
        { value: "240.240.0.1", host: "one.example" },
        { value: "240.240.0.2", host: "*.example" },
      ],
    },
  };
  const vips: readonly (readonly [string, KubeServiceEntry["spec"], readonly string[]])[] = [
    ["the host's own", { hosts: ["one.example"], resolution: "STATIC" }, ["240.240.0.1"]],
    [
      "not when there are written ones",
      { hosts: ["one.example"], addresses: ["10.1.0.1"], resolution: "STATIC" },
      ["10.1.0.1"],
    ],
    ["not for resolution NONE", { hosts: ["one.example"], resolution: "NONE" }, []],
    ["not without resolution, which is NONE", { hosts: ["one.example"] }, []],
    ["not for a wildcard", { hosts: ["*.example"], resolution: "DNS" }, []],
    [
      "for a wildcard that is resolved when it is used",
      { hosts: ["*.example"], resolution: "DYNAMIC_DNS" },
      ["240.240.0.2"],
    ],
  ];
  for (const [name, spec, expected] of vips) {
    it(`has allocated addresses: ${name}`, () => {
      const [service] = servicesOf([{ ...entry("e", spec), ...allocated }]);
      assert.deepEqual(
        service?.vips.map(({ ip }) => ip),
        expected,
      );
    });
  }

  it("lets connections through as they are when nothing is to be resolved", () => {
    const [service] = servicesOf([entry("e", { hosts: ["one.example"], resolution: "NONE" })]);
    assert.deepEqual(service?.loadBalancer, { routingPreferences: [], mode: "Passthrough", healthPolicy: "AllowAll" });
  });

  it("balances as annotated, and keeps its preset to itself", () => {
    const annotated = entry("e", { hosts: ["one.example"], resolution: "STATIC" });
    const annotations = { "networking.istio.io/traffic-distribution": "PreferClose" };
    const [service] = servicesOf([{ ...annotated, metadata: { ...annotated.metadata, annotations } }]);
    assert.deepEqual(service?.loadBalancer?.routingPreferences, ["Network", "Region", "Zone"]);
  });

  it("with an address that is none is not sent at all, and says so", () => {
    const broken = entry("e", { hosts: ["one.example"], addresses: ["10.1.0.1", "here"], resolution: "DNS" });
    const { resources, statuses } = convert(world({ serviceEntries: [broken] }));
    assert.deepEqual(resources, []);
    assert.deepEqual(
      statuses[0]?.conditions.map(({ type, reason }) => [type, reason]),
      [["ambient.tulle.dev/Accepted", "Invalid"]],
    );
  });

  it("that is malformed keeps nobody else from the mesh", () => {
    const broken = {
      metadata: { name: "bad", namespace: "a" },
      spec: { hosts: "x" as unknown as string[], endpoints: 1 as never },
    };
    const { resources, statuses } = convert(
      world({ serviceEntries: [broken, entry("e", { hosts: ["one.example"] })] }),
    );
    assert.deepEqual(
      resources.map((one) => one.kind === "service" && one.service.hostname),
      ["one.example"],
    );
    assert.equal(statuses.find(({ name }) => name === "bad")?.conditions[0]?.reason, "Invalid");
  });

  const settings: MeshSettings = {
    ...DEFAULT_MESH_SETTINGS,
    serviceEntryVisibility: {
      defaultVisibility: "NAMESPACE",
      policies: [
        {
          visibility: "PUBLIC",
          matchingRules: [{ namespaceSelector: { matchLabels: { share: "yes" } } }, { namespaceSelector: {} }],
        },
        {
          visibility: "NONE",
          matchingRules: [
            { namespaceSelector: { matchExpressions: [{ key: "share", operator: "In", values: ["no"] }] } },
          ],
        },
      ],
    },
  };
  for (const [share, visibility, reason] of [
    ["yes", "Public", "Public"],
    ["no", undefined, "None"],
    ["", "Namespace", "Namespace"],
  ] as const) {
    it(`is seen as the mesh says of namespaces labelled "${share}"`, () => {
      const namespaces = [{ metadata: { name: "a", labels: { share } } }];
      const { resources, statuses } = convert(
        world({ namespaces, serviceEntries: [entry("e", { hosts: ["one.example"] })] }),
        settings,
      );
      const [first] = resources;
      assert.equal(first?.kind === "service" ? first.service.visibility : undefined, visibility);
      const condition = statuses[0]?.conditions.find(({ type }) => type === "istio.io/VisibilityApplied");
      assert.deepEqual([condition?.status, condition?.reason], ["True", reason]);
    });
  }

  it("that its namespace alone sees has no waypoint of another", () => {
    const labels = { "istio.io/use-waypoint": "wp", "istio.io/use-waypoint-namespace": "b" };
    const one = entry("e", { hosts: ["one.example"] });
    const { resources, statuses } = convert(
      world({ serviceEntries: [{ ...one, metadata: { ...one.metadata, labels } }] }),
      settings,
    );
    assert.ok(resources[0]?.kind === "service");
    assert.equal(resources[0].service.waypoint?.destination.kind, "hostname");
    const reasons = statuses[0]?.conditions.map(({ reason }) => reason);
    assert.deepEqual(reasons, ["Namespace", "CrossNamespaceWaypointForbidden"]);
  });

  const missing: readonly (readonly [string, KubeServiceEntry["spec"], Record<string, string>, string | undefined])[] =
    [
      ["a plain host", { hosts: ["one.example"] }, {}, undefined],
      ["a wildcard", { hosts: ["*.example"] }, {}, "NoWaypointForWildcardService"],
      [
        "racing",
        { hosts: ["*.example"] },
        { "istio.io/connect-strategy": "race_first_tcp_connect" },
        "NoWaypointForRacingConnectStrategy",
      ],
    ];
  for (const [name, spec, annotations, reason] of missing) {
    it(`says that a waypoint is missing: ${name}`, () => {
      const one = entry("e", spec);
      const { statuses } = convert(world({ serviceEntries: [{ ...one, metadata: { ...one.metadata, annotations } }] }));
      const condition = statuses[0]?.conditions.find(({ type }) => type === "istio.io/WaypointMissing");
      assert.equal(condition?.reason, reason);
      const labels = { "istio.io/use-waypoint": "wp" };
      const gateways = [{ metadata: { name: "wp", namespace: "a" }, status: { addresses: [{ value: "10.9.0.1" }] } }];
      const bound = convert(
        world({ gateways, serviceEntries: [{ ...one, metadata: { ...one.metadata, annotations, labels } }] }),
      );
      assert.deepEqual(
        bound.statuses[0]?.conditions.map(({ type }) => type),
        ["istio.io/WaypointBound"],
      );
    });
  }
});

describe("endpoints of a ServiceEntry", () => {
  const full = {
    address: "10.5.0.1",
    network: "net2",
    locality: "r/z/s",
    weight: 3,
    serviceAccount: "sa",
    ports: { http: 8080 },
  };

  it("are workloads of all its hosts", () => {
    const labels = { app: "shop", version: "v2", "networking.istio.io/tunnel": "http" };
    const from = entry("e", {
      hosts: ["b.example", "a.example"],
      ports: [HTTP],
      resolution: "STATIC",
      endpoints: [full],
    });
    const [workload] = workloadsOf({ serviceEntries: [{ ...from, metadata: { ...from.metadata, labels } }] });
    assert.ok(workload);
    assert.equal(workload.uid, "Kubernetes/networking.istio.io/ServiceEntry/a/e/10.5.0.1");
    assert.deepEqual(
      [...workload.services],
      [
        ["a/a.example", new Map([[80, 8080]])],
        ["a/b.example", new Map([[80, 8080]])],
      ],
    );
    const { addresses, network, locality, capacity, serviceAccount, workloadName, canonicalName, canonicalRevision } =
      workload;
    assert.deepEqual(
      { addresses, network, locality, capacity, serviceAccount, workloadName, canonicalName, canonicalRevision },
      {
        addresses: ["10.5.0.1"],
        network: "net2",
        locality: { region: "r", zone: "z", subzone: "s" },
        capacity: 3,
        serviceAccount: "sa",
        workloadName: "e",
        canonicalName: "shop",
        canonicalRevision: "v2",
      },
    );
    assert.deepEqual(
      [workload.protocol, workload.nativeTunnel, workload.healthy, workload.workloadType],
      ["HBONE", true, true, "pod"],
    );
  });

  it("have each their own network, or the cluster's", () => {
    const endpoints = [full, { address: "10.5.0.2" }];
    const workloads = workloadsOf({
      serviceEntries: [entry("e", { hosts: ["a.example"], resolution: "STATIC", endpoints })],
    });
    assert.deepEqual(
      workloads.map(({ network }) => network),
      ["net2", ""],
    );
  });

  const ports: readonly (readonly [string, object, object, number])[] = [
    ["the endpoint's port of that name", { ...HTTP, targetPort: 81 }, { http: 82 }, 82],
    ["else the target port", { ...HTTP, targetPort: 81 }, { other: 82 }, 81],
    ["else the port", HTTP, {}, 80],
  ];
  for (const [name, port, own, expected] of ports) {
    it(`listen on ${name}`, () => {
      const spec = {
        hosts: ["a.example"],
        ports: [port],
        resolution: "STATIC",
        endpoints: [{ address: "10.5.0.1", ports: own }],
      };
      const [workload] = workloadsOf({ serviceEntries: [entry("e", spec as never)] });
      assert.deepEqual(workload?.services.get("a/a.example"), new Map([[80, expected]]));
    });
  }

  const implicit: readonly (readonly [string, KubeServiceEntry["spec"], readonly string[]])[] = [
    ["DNS", { hosts: ["a.example", "b.example"], resolution: "DNS" }, ["a.example", "b.example"]],
    ["DNS_ROUND_ROBIN", { hosts: ["a.example"], resolution: "DNS_ROUND_ROBIN" }, ["a.example"]],
    ["DYNAMIC_DNS, wildcards, too", { hosts: ["*.example"], resolution: "DYNAMIC_DNS" }, ["*.example"]],
    ["not STATIC", { hosts: ["a.example"], resolution: "STATIC" }, []],
    ["not NONE", { hosts: ["a.example"] }, []],
    [
      "not when pods are selected",
      { hosts: ["a.example"], resolution: "DNS", workloadSelector: { labels: { app: "x" } } },
      [],
    ],
    [
      "not beside written ones",
      { hosts: ["a.example"], resolution: "DNS", endpoints: [{ address: "real.example" }] },
      ["real.example"],
    ],
  ];
  for (const [name, spec, hostnames] of implicit) {
    it(`are the hosts themselves when names are resolved: ${name}`, () => {
      const workloads = workloadsOf({ serviceEntries: [entry("e", spec)] });
      assert.deepEqual(
        workloads.map(({ hostname }) => hostname),
        hostnames,
      );
    });
  }

  it("belong to one host each when they are the hosts themselves, and have no waypoint", () => {
    const labels = { "istio.io/use-waypoint": "wp" };
    const namespaces = [{ metadata: { name: "a", labels } }];
    const serviceEntries = [entry("e", { hosts: ["a.example", "b.example"], resolution: "DNS", ports: [HTTP] })];
    const workloads = workloadsOf({ namespaces, serviceEntries });
    assert.deepEqual(
      workloads.map(({ services, waypoint }) => [[...services.keys()], waypoint]),
      [
        [["a/a.example"], undefined],
        [["a/b.example"], undefined],
      ],
    );
  });

  it("name policies that select the entry's labels", () => {
    const from = entry("e", {
      hosts: ["a.example"],
      resolution: "STATIC",
      endpoints: [{ address: "10.5.0.1", labels: { app: "other" } }],
    });
    const policy = { metadata: { name: "p", namespace: "a" }, spec: { selector: { matchLabels: { app: "shop" } } } };
    const serviceEntries = [{ ...from, metadata: { ...from.metadata, labels: { app: "shop" } } }];
    const [workload] = workloadsOf({ serviceEntries, authorizationPolicies: [policy] });
    assert.deepEqual(workload?.authorizationPolicies, ["a/p"]);
  });

  it("that are neither address nor name are left out, and said", () => {
    const spec = {
      hosts: ["a.example"],
      resolution: "STATIC",
      endpoints: [{ address: "unix:///run/x" }, { address: "10.5.0.1" }],
    };
    const { resources, statuses } = convert(world({ serviceEntries: [entry("e", spec)] }));
    assert.equal(resources.filter(({ kind }) => kind === "workload").length, 1);
    assert.match(statuses[0]?.conditions[0]?.message ?? "", /unix:\/\/\/run\/x/);
  });

  it("that are left out are counted when there are too many to list", () => {
    const endpoints = Array.from({ length: 20 }, (_, i) => ({ address: `unix:///${i}/${"x".repeat(5000)}` }));
    const serviceEntries = [entry("e", { hosts: ["a.example"], resolution: "STATIC", endpoints })];
    const message = convert(world({ serviceEntries })).statuses[0]?.conditions[0]?.message ?? "";
    assert.match(message, /; and 12 more$/);
    assert.ok(message.length < 32_768);
  });

  describe("that ask for a waypoint which is not there", () => {
    const WAYPOINT = "istio.io/use-waypoint";
    const OPTIONAL = "ambient.tulle.dev/waypoint-optional";
    const away = { address: "10.5.0.1", labels: { [WAYPOINT]: "away" } };
    const far = { address: "10.5.0.2", labels: { [WAYPOINT]: "far" } };
    const plain = { address: "10.5.0.3" };
    /** Waypoints of the endpoints, and the condition. */
    const told = (endpoints: readonly object[], metadata: object = {}, namespace: object = {}) => {
      const { metadata: named, ...rest } = entry("e", { hosts: ["a.example"], resolution: "STATIC", endpoints });
      const serviceEntries = [{ ...rest, metadata: { ...named, ...metadata } }];
      const namespaces = [{ metadata: { name: "a", ...namespace } }];
      const { resources, statuses } = convert(world({ namespaces, serviceEntries }));
      const workloads = resources.flatMap((one) => (one.kind === "workload" ? [one.workload] : []));
      const [condition, ...more] = statuses[0]?.conditions ?? [];
      assert.deepEqual(more, []);
      const { type, status, reason, message } = condition ?? {};
      return {
        refused: workloads.map(({ waypoint }) => waypoint !== undefined),
        condition: type && `${type} ${status} ${reason}`,
        message,
      };
    };
    const NOT_BOUND = "istio.io/WaypointBound False WaypointIsNotReady";

    it("are refused, and the entry tells", () => {
      const { refused, condition, message } = told([plain, away, far]);
      assert.deepEqual(refused, [true, true, false]);
      assert.equal(condition, NOT_BOUND);
      assert.match(
        message ?? "",
        /^Endpoint 10\.5\.0\.1 and 1 more: waypoint "a\/away" is not ready\. Traffic is refused/,
      );
      assert.deepEqual(told([plain]), { refused: [false], condition: undefined, message: undefined });
    });

    it("go without when the entry, or its namespace, calls it optional", () => {
      for (const [metadata, namespace, expected] of [
        [{ annotations: { [OPTIONAL]: "true" } }, {}, false],
        [{}, { annotations: { [OPTIONAL]: "true" } }, false],
        [{ annotations: { [OPTIONAL]: "false" } }, { annotations: { [OPTIONAL]: "true" } }, true],
      ] as const) {
        const { refused, condition, message } = told([away], metadata, namespace);
        assert.deepEqual([refused, condition], [[expected], NOT_BOUND]);
        assert.match(message ?? "", expected ? /Traffic is refused/ : /Traffic goes without a waypoint$/);
      }
    });

    it("are told of after the entry itself, and not twice", () => {
      const own = told([far], { labels: { [WAYPOINT]: "mine" } });
      assert.equal(own.condition, NOT_BOUND);
      assert.match(
        own.message ?? "",
        /^waypoint "a\/mine" is not ready\..+\. Endpoint 10\.5\.0\.2: waypoint "a\/far" is not/,
      );
      const inherited = told([plain], {}, { labels: { [WAYPOINT]: "ours" } });
      assert.deepEqual([inherited.refused, inherited.condition], [[true], NOT_BOUND]);
      assert.doesNotMatch(inherited.message ?? "", /Endpoint/);
    });
  });

  it("do not stand in for a pod of another namespace", () => {
    const spec = { hosts: ["a.example"], resolution: "STATIC", endpoints: [{ address: "10.0.0.9" }] };
    const told = (pod: KubePod) => {
      const { resources, statuses } = convert(world({ pods: [pod], serviceEntries: [entry("e", spec)] }));
      const sent = resources.some((one) => one.kind === "workload" && one.workload.name === "e");
      return [sent, statuses[0]?.conditions[0]?.message];
    };
    const victim: KubePod = {
      metadata: { name: "p", namespace: "b" },
      status: { phase: "Running", podIP: "10.0.0.9" },
    };
    assert.deepEqual(told(victim), [false, "endpoint 10.0.0.9 is pod b/p of another namespace; it is not sent"]);
    // A node's address is nobody's alone, what has ended has none, and another network has its own.
    assert.equal(told({ ...victim, spec: { hostNetwork: true } })[0], true);
    assert.equal(told({ ...victim, status: { ...victim.status, phase: "Failed" } })[0], true);
    assert.equal(told({ ...victim, metadata: { name: "p", namespace: "a" } })[0], true);
    const elsewhere = { ...spec, endpoints: [{ address: "10.0.0.9", network: "net2" }] };
    assert.equal(workloadsOf({ pods: [victim], serviceEntries: [entry("e", elsewhere)] }).length, 2);
  });
});

function entry(name: string, spec: KubeServiceEntry["spec"]): KubeServiceEntry {
  return { metadata: { name, namespace: "a" }, spec };
}

function world(parts: Partial<KubeObjects>): KubeObjects {
  return { namespaces: [], pods: [], services: [], authorizationPolicies: [], peerAuthentications: [], ...parts };
}

function servicesOf(serviceEntries: readonly KubeServiceEntry[]): readonly Service[] {
  return convert(world({ serviceEntries })).resources.flatMap((one) => (one.kind === "service" ? [one.service] : []));
}

function workloadsOf(parts: Partial<KubeObjects>): readonly Workload[] {
  return convert(world(parts)).resources.flatMap((one) => (one.kind === "workload" ? [one.workload] : []));
}
