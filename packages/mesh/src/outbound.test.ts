import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatSocketAddress, parseCidr, parseSocketAddress, seededRandom } from "@tulle/base";
import { newService, newWorkload, type ServiceFields, type WorkloadFields } from "./defaults.ts";
import type { GatewayAddress, LoadBalancer, MeshChange, Service, Workload } from "./model.ts";
import { type OutboundDecision, type OutboundQuery, resolveOutbound } from "./outbound.ts";
import { MeshState } from "./state.ts";

const SOURCE = newWorkload({ uid: "c//Pod/ns/source", name: "source", namespace: "ns", addresses: ["127.0.0.1"] });
const WEB = "ns/example.com";

function pod(name: string, ip: string, fields: Partial<Workload> = {}): MeshChange {
  const identity: WorkloadFields = { uid: `c//Pod/ns/${name}`, name, namespace: "ns" };
  return {
    kind: "workload",
    workload: newWorkload({ ...identity, serviceAccount: name, protocol: "HBONE", addresses: [ip], ...fields }),
  };
}

function service(ip: string, fields: Partial<Service> = {}): MeshChange {
  const base: ServiceFields = { name: "example", namespace: "ns", hostname: "example.com" };
  const ports = new Map([[80, 8080]]);
  return { kind: "service", service: newService({ ...base, vips: [{ network: "", ip }], ports, ...fields }) };
}

function endpoint(ports: [number, number][] = [], key: string = WEB): Workload["services"] {
  return new Map([[key, new Map(ports)]]);
}

function at(ip: string, hboneMtlsPort = 15008): GatewayAddress {
  return { destination: { kind: "address", network: "", ip }, hboneMtlsPort };
}

function named(hostname: string, hboneMtlsPort = 15008): GatewayAddress {
  return { destination: { kind: "hostname", namespace: "ns", hostname }, hboneMtlsPort };
}

function balancer(fields: Partial<LoadBalancer>): LoadBalancer {
  return { routingPreferences: [], mode: "Standard", healthPolicy: "OnlyHealthy", ...fields };
}

function decide(
  changes: readonly MeshChange[],
  destination: string,
  options: Partial<OutboundQuery> & { readonly synced?: boolean } = {},
): OutboundDecision {
  const state = new MeshState();
  for (const change of changes) state.apply(change);
  if (options.synced !== false) state.apply({ kind: "synced" });
  const address = parseSocketAddress(destination);
  assert.ok(address);
  const query = { source: SOURCE, destination: address, network: "", meshCidrs: [], random: seededRandom(1) };
  return resolveOutbound(state, { ...query, ...options });
}

/** `HBONE address authority`, `TCP address`, `PASSTHROUGH address`, or what keeps it from being one of them. */
function shown(decision: OutboundDecision): string {
  switch (decision.kind) {
    case "hbone":
      return `HBONE ${formatSocketAddress(decision.connect)} ${decision.authority}`;
    case "tcp":
      return `TCP ${formatSocketAddress(decision.connect)}`;
    case "passthrough":
      return `PASSTHROUGH ${formatSocketAddress(decision.connect)}`;
    case "dns":
      return `DNS ${decision.hostname} ${decision.family}`;
    case "wait":
      return `WAIT ${decision.refusal.message}`;
    case "refuse":
      return `REFUSE ${decision.message}`;
    default:
      return decision satisfies never;
  }
}

const REMOTE = { network: "remote", networkGateway: at("10.22.1.1", 15009) };
const WAYPOINT = pod("waypoint", "127.0.0.10", { serviceAccount: "wp" });
const WAYPOINT_KEY = "ns/wp.ns.svc";
const WAYPOINT_SERVICE: MeshChange = {
  kind: "service",
  service: newService({
    name: "wp",
    namespace: "ns",
    hostname: "wp.ns.svc",
    vips: [{ network: "", ip: "127.9.9.9" }],
    ports: new Map([[15008, 15008]]),
    subjectAltNames: ["spiffe://cluster.local/ns/ns/sa/canary", "not spiffe"],
  }),
};
const WAYPOINT_POD = pod("waypoint", "127.0.0.10", { services: endpoint([[15008, 15008]], WAYPOINT_KEY) });

describe("a captured connection", () => {
  const cases: readonly (readonly [string, readonly MeshChange[], string, string, Partial<OutboundQuery>?])[] = [
    ["to somebody unknown passes", [], "1.2.3.4:80", "PASSTHROUGH 1.2.3.4:80"],
    ["to ourselves is refused", [], "127.0.0.1:15001", "REFUSE attempted recursive call to ourselves"],
    ["to ourselves over IPv6 is refused", [], "[::1]:15008", "REFUSE attempted recursive call to ourselves"],
    [
      "to ourselves in disguise is refused",
      [],
      "[::ffff:127.0.0.1]:15006",
      "REFUSE attempted recursive call to ourselves",
    ],
    ["to a loopback application passes", [], "127.0.0.9:80", "PASSTHROUGH 127.0.0.9:80"],
    ["to port 15008 of somebody else passes", [], "1.2.3.4:15008", "PASSTHROUGH 1.2.3.4:15008"],
    [
      "to a pod outside the mesh is plain",
      [pod("p", "127.0.0.2", { protocol: "TCP" })],
      "127.0.0.2:80",
      "TCP 127.0.0.2:80",
    ],
    ["to a pod of the mesh is HBONE", [pod("p", "127.0.0.2")], "127.0.0.2:80", "HBONE 127.0.0.2:15008 127.0.0.2:80"],
    [
      "to a pod on our own node is HBONE",
      [pod("p", "127.0.0.2", { node: "n1" })],
      "127.0.0.2:80",
      "HBONE 127.0.0.2:15008 127.0.0.2:80",
      { source: { ...SOURCE, node: "n1" } },
    ],
    [
      "to a pod of another network with that address passes",
      [pod("p", "1.2.3.4", { network: "n2" })],
      "1.2.3.4:80",
      "PASSTHROUGH 1.2.3.4:80",
    ],
    [
      "from a pod with a waypoint does not use it",
      [pod("p", "127.0.0.2", { protocol: "TCP" }), WAYPOINT],
      "127.0.0.2:80",
      "TCP 127.0.0.2:80",
      { source: { ...SOURCE, waypoint: at("127.0.0.10") } },
    ],
    [
      "to a pod with a waypoint goes there",
      [pod("p", "127.0.0.2", { waypoint: at("127.0.0.10") }), WAYPOINT],
      "127.0.0.2:80",
      "HBONE 127.0.0.10:15008 127.0.0.2:80",
    ],
    [
      "to a pod of another family goes to its waypoint as it can",
      [pod("p", "ff06::c3", { waypoint: at("127.0.0.10") }), WAYPOINT],
      "[ff06::c3]:80",
      "HBONE 127.0.0.10:15008 [ff06::c3]:80",
    ],
    [
      "to a pod whose waypoint is a service goes to its endpoint",
      [pod("p", "127.0.0.2", { waypoint: at("127.9.9.9") }), WAYPOINT_SERVICE, WAYPOINT_POD],
      "127.0.0.2:80",
      "HBONE 127.0.0.10:15008 127.0.0.2:80",
    ],
    [
      "to a pod whose waypoint has a name goes to its endpoint",
      [pod("p", "127.0.0.2", { waypoint: named("wp.ns.svc") }), WAYPOINT_SERVICE, WAYPOINT_POD],
      "127.0.0.2:80",
      "HBONE 127.0.0.10:15008 127.0.0.2:80",
    ],
    [
      "to a pod whose waypoint is a workload with a name goes there",
      [
        pod("p", "127.0.0.2", { waypoint: named("wp.example.com", 15010) }),
        pod("wp", "127.0.0.10", { hostname: "wp.example.com" }),
      ],
      "127.0.0.2:80",
      "HBONE 127.0.0.10:15010 127.0.0.2:80",
    ],
    [
      "from the waypoint itself goes straight to the pod",
      [pod("p", "127.0.0.2", { waypoint: at("127.9.9.9") }), WAYPOINT_SERVICE, WAYPOINT_POD],
      "127.0.0.2:80",
      "HBONE 127.0.0.2:15008 127.0.0.2:80",
      { source: workloadOf(WAYPOINT_POD), sourceIp: "127.0.0.10" },
    ],
    [
      "from an address that is not the waypoint's own is not the waypoint's",
      [pod("p", "127.0.0.2", { waypoint: at("127.9.9.9") }), WAYPOINT_SERVICE, WAYPOINT_POD],
      "127.0.0.2:80",
      "HBONE 127.0.0.10:15008 127.0.0.2:80",
      { source: workloadOf(WAYPOINT_POD), sourceIp: "127.0.0.66" },
    ],
    [
      "to a service with a waypoint goes there, for the service's address",
      [service("127.0.0.3", { waypoint: at("127.0.0.10") }), pod("p", "127.0.0.2", { services: endpoint() }), WAYPOINT],
      "127.0.0.3:80",
      "HBONE 127.0.0.10:15008 127.0.0.3:80",
    ],
    [
      "to a service with a waypoint goes there even without endpoints",
      [service("127.0.0.3", { waypoint: at("127.0.0.10") }), WAYPOINT],
      "127.0.0.3:80",
      "HBONE 127.0.0.10:15008 127.0.0.3:80",
    ],
    [
      "to a service without waypoint ignores its endpoints' waypoints",
      [service("127.0.0.3"), pod("p", "127.0.0.2", { services: endpoint(), waypoint: at("127.0.0.10") }), WAYPOINT],
      "127.0.0.3:80",
      "HBONE 127.0.0.2:15008 127.0.0.2:8080",
    ],
    [
      "to a pod that a service has, too, uses the pod's waypoint",
      [service("127.0.0.3"), pod("p", "127.0.0.2", { services: endpoint(), waypoint: at("127.0.0.10") }), WAYPOINT],
      "127.0.0.2:8080",
      "HBONE 127.0.0.10:15008 127.0.0.2:8080",
    ],
    [
      "to a service without endpoints fails",
      [service("127.0.0.3")],
      "127.0.0.3:80",
      "REFUSE no healthy upstream: 127.0.0.3:80",
    ],
    [
      "to a port that the service does not have fails",
      [service("127.0.0.3"), pod("p", "127.0.0.2", { services: endpoint([[81, 81]]) })],
      "127.0.0.3:81",
      "REFUSE no healthy upstream: 127.0.0.3:81",
    ],
    [
      "to a named port goes to the pod that has it",
      [
        service("127.0.0.3", { ports: new Map([[80, 0]]) }),
        pod("p", "127.0.0.2", { protocol: "TCP", services: endpoint([[80, 1234]]) }),
        pod("q", "127.0.0.4", { protocol: "TCP", services: endpoint() }),
      ],
      "127.0.0.3:80",
      "TCP 127.0.0.2:1234",
    ],
    [
      "to a service on the host's network goes to the node",
      [service("127.0.0.3"), pod("p", "10.0.0.1", { protocol: "TCP", hostNetwork: true, services: endpoint() })],
      "127.0.0.3:80",
      "TCP 10.0.0.1:8080",
    ],
    ["to a node passes", [pod("p", "10.0.0.1", { hostNetwork: true })], "10.0.0.1:80", "PASSTHROUGH 10.0.0.1:80"],
    [
      "to a pod of two addresses keeps the v4 one",
      [pod("p", "127.0.0.2", { addresses: ["127.0.0.2", "ff06::2"], protocol: "TCP" })],
      "127.0.0.2:80",
      "TCP 127.0.0.2:80",
    ],
    [
      "to a pod of two addresses keeps the v6 one",
      [pod("p", "127.0.0.2", { addresses: ["127.0.0.2", "ff06::2"], protocol: "TCP" })],
      "[ff06::2]:80",
      "TCP [ff06::2]:80",
    ],
    ...(
      [
        ["IPv6", "TCP [ff06::2]:8080"],
        ["IPv4", "TCP 127.0.0.2:8080"],
        ["Dual", "TCP 127.0.0.2:8080"],
        [undefined, "TCP 127.0.0.2:8080"],
      ] as const
    ).map(
      ([ipFamilies, expected]) =>
        [
          `to a v4 address of a service of ${ipFamilies ?? "automatic"} families`,
          [
            service("127.0.0.3", { ipFamilies }),
            pod("p", "127.0.0.2", { addresses: ["127.0.0.2", "ff06::2"], protocol: "TCP", services: endpoint() }),
          ],
          "127.0.0.3:80",
          expected,
        ] as const,
    ),
    [
      "to a v6 address of a dual service goes to the v6 address",
      [
        service("ff06::3", { ipFamilies: "Dual" }),
        pod("p", "127.0.0.2", { addresses: ["127.0.0.2", "ff06::2"], protocol: "TCP", services: endpoint() }),
      ],
      "[ff06::3]:80",
      "TCP [ff06::2]:8080",
    ],
    [
      "to a v6-only service whose pod is v4 has nowhere to go",
      [service("127.0.0.3", { ipFamilies: "IPv6" }), pod("p", "127.0.0.2", { services: endpoint() })],
      "127.0.0.3:80",
      "REFUSE no valid routing destination for workload: Workload{p with uid c//Pod/ns/p (HBONE)}",
    ],
    [
      "to a service that is passed through goes where it was going",
      [
        service("10.1.0.1", {
          vips: [
            { network: "", ip: "10.1.0.1" },
            { network: "", ip: "10.1.0.2" },
          ],
          loadBalancer: balancer({ mode: "Passthrough" }),
        }),
      ],
      "10.1.0.2:80",
      "PASSTHROUGH 10.1.0.2:80",
    ],
    [
      "to a service that is passed through uses its waypoint",
      [service("10.1.0.1", { waypoint: at("127.0.0.10"), loadBalancer: balancer({ mode: "Passthrough" }) }), WAYPOINT],
      "10.1.0.1:80",
      "HBONE 127.0.0.10:15008 10.1.0.1:80",
    ],
    [
      "to an endpoint of another network without gateway fails",
      [service("127.0.0.3"), pod("p", "127.0.0.2", { network: "remote", services: endpoint() })],
      "127.0.0.3:80",
      "REFUSE no healthy upstream: 127.0.0.3:80",
    ],
    [
      "to an endpoint behind a gateway needs what is not there yet",
      [service("127.0.0.3"), pod("p", "127.0.0.2", { ...REMOTE, services: endpoint() })],
      "127.0.0.3:80",
      'REFUSE unsupported feature: double HBONE to Workload{p with uid c//Pod/ns/p (HBONE)} in network "remote"',
    ],
    [
      "prefers an endpoint that it can reach",
      [
        service("127.0.0.3"),
        pod("p", "127.0.0.2", { ...REMOTE, services: endpoint(), capacity: 1_000_000 }),
        pod("q", "127.0.0.4", { services: endpoint() }),
      ],
      "127.0.0.3:80",
      "HBONE 127.0.0.4:15008 127.0.0.4:8080",
    ],
    [
      "to a waypoint in another network without gateway fails",
      [
        service("127.0.0.3", {
          waypoint: { ...at("127.0.0.10"), destination: { kind: "address", network: "remote", ip: "127.0.0.10" } },
        }),
        pod("w", "127.0.0.10", { network: "remote" }),
      ],
      "127.0.0.3:80",
      "REFUSE no valid routing destination for workload: Workload{w with uid c//Pod/ns/w (HBONE)}",
    ],
    [
      "to a pod with a waypoint in another network names what is missing",
      [
        pod("p", "127.0.0.2", {
          waypoint: { ...at("127.0.0.10"), destination: { kind: "address", network: "remote", ip: "127.0.0.10" } },
        }),
        pod("w", "127.0.0.10", REMOTE),
      ],
      "127.0.0.2:80",
      "REFUSE no service for target address: 127.0.0.2:80",
    ],
    [
      "waits for a waypoint that is not known",
      [service("127.0.0.3", { waypoint: named("gone.ns.svc") }), pod("p", "127.0.0.2", { services: endpoint() })],
      "127.0.0.3:80",
      "WAIT unknown waypoint: waypoint ns/gone.ns.svc not found",
    ],
    [
      "waits for a pod's waypoint that is not known",
      [pod("p", "127.0.0.2", { waypoint: at("127.0.0.10") })],
      "127.0.0.2:80",
      "WAIT unknown waypoint: waypoint /127.0.0.10 not found",
    ],
    [
      "waits for a waypoint without endpoints",
      [service("127.0.0.3", { waypoint: at("127.9.9.9") }), WAYPOINT_SERVICE],
      "127.0.0.3:80",
      "WAIT unknown waypoint: waypoint /127.9.9.9 has no healthy endpoint",
    ],
    [
      "waits for what should be known",
      [],
      "10.244.1.9:80",
      "WAIT unknown destination: 10.244.1.9:80 is in MESH_CIDRS, but no workload or service has this address",
      { meshCidrs: cidrs("10.244.0.0/16") },
    ],
    [
      "passes beside the mesh's ranges",
      [],
      "10.245.1.9:80",
      "PASSTHROUGH 10.245.1.9:80",
      { meshCidrs: cidrs("10.244.0.0/16") },
    ],
    [
      "passes to a node within the mesh's ranges",
      [pod("p", "10.244.1.9", { hostNetwork: true })],
      "10.244.1.9:80",
      "PASSTHROUGH 10.244.1.9:80",
      { meshCidrs: cidrs("10.244.0.0/16") },
    ],
    [
      "waits for what should be known, in IPv6 as well",
      [],
      "[fd00::9]:80",
      "WAIT unknown destination: [fd00::9]:80 is in MESH_CIDRS, but no workload or service has this address",
      { meshCidrs: cidrs("10.244.0.0/16", "fd00::/16") },
    ],
    [
      "to a service that only others see is not to a service",
      [service("10.1.0.1", { namespace: "other", visibility: "Namespace" })],
      "10.1.0.1:80",
      "PASSTHROUGH 10.1.0.1:80",
    ],
    [
      "to a workload with a name looks it up",
      [
        service("127.0.0.3"),
        pod("p", "", { addresses: [], hostname: "db.example.com", protocol: "TCP", services: endpoint() }),
      ],
      "127.0.0.3:80",
      "DNS db.example.com any",
    ],
  ];
  for (const [name, changes, destination, expected, options] of cases) {
    it(name, () => {
      assert.equal(shown(decide(changes, destination, options)), expected);
    });
  }

  it("does not pass as unknown before the mesh is known", () => {
    assert.match(shown(decide([], "1.2.3.4:80", { synced: false })), /^WAIT the mesh configuration has not/);
  });

  it("accepts the workload's identity and the service's names, for a waypoint its own", () => {
    const names = { subjectAltNames: ["spiffe://x/ns/y/sa/z", "spiffe://broken", "x"] };
    const direct = decide(
      [service("127.0.0.3", names), pod("p", "127.0.0.2", { services: endpoint() })],
      "127.0.0.3:80",
    );
    assert.deepEqual(direct.kind === "hbone" && direct.identities, [
      "spiffe://cluster.local/ns/ns/sa/p",
      "spiffe://x/ns/y/sa/z",
    ]);
    const changes = [service("127.0.0.3", { ...names, waypoint: at("127.9.9.9") }), WAYPOINT_SERVICE, WAYPOINT_POD];
    const via = decide(changes, "127.0.0.3:80");
    assert.ok(via.kind === "hbone");
    assert.deepEqual(via.identities, [
      "spiffe://cluster.local/ns/ns/sa/waypoint",
      "spiffe://cluster.local/ns/ns/sa/canary",
    ]);
    assert.deepEqual(
      [via.service?.hostname, via.workload.name, via.viaWaypoint],
      ["example.com", "waypoint", at("127.9.9.9")],
    );
  });

  it("shares a service's traffic between its waypoints by weight", () => {
    const other = pod("canary", "127.0.0.11");
    const weighted = (a: number, b: number) => ({
      waypoint: at("127.0.0.10"),
      weightedWaypoints: [
        { destination: at("127.0.0.10"), weight: a },
        { destination: at("127.0.0.11"), weight: b },
      ],
    });
    const share = (a: number, b: number) => {
      const random = seededRandom(7);
      const changes = [service("127.0.0.3", weighted(a, b)), WAYPOINT, other];
      const picks = Array.from({ length: 200 }, () => shown(decide(changes, "127.0.0.3:80", { random })));
      return picks.filter((text) => text.startsWith("HBONE 127.0.0.11:")).length;
    };
    assert.equal(share(1, 0), 0);
    assert.equal(share(0, 1), 200);
    assert.equal(share(0, 0), 0, "no weight at all: the service's own waypoint");
    const tenth = share(90, 10);
    assert.ok(tenth > 5 && tenth < 45, String(tenth));
  });
});

describe("a retry", () => {
  const two = [
    service("127.0.0.3"),
    pod("p", "127.0.0.2", { services: endpoint() }),
    pod("q", "127.0.0.4", { services: endpoint() }),
  ];

  it("goes to another endpoint, and fails when there is none", () => {
    const after = (...uids: string[]) => shown(decide(two, "127.0.0.3:80", { exclude: new Set(uids) }));
    assert.equal(after("c//Pod/ns/p"), "HBONE 127.0.0.4:15008 127.0.0.4:8080");
    assert.equal(after("c//Pod/ns/q"), "HBONE 127.0.0.2:15008 127.0.0.2:8080");
    assert.equal(after("c//Pod/ns/p", "c//Pod/ns/q"), "REFUSE no healthy upstream: 127.0.0.3:80");
  });

  it("to a pod has nowhere else to go", () => {
    const exclude = new Set(["c//Pod/ns/p"]);
    assert.equal(shown(decide(two, "127.0.0.2:80", { exclude })), "REFUSE no healthy upstream: 127.0.0.2:80");
  });

  it("through a waypoint does not wait for it, and does not go around it", () => {
    const changes = [
      service("127.0.0.3", { waypoint: at("127.9.9.9") }),
      WAYPOINT_SERVICE,
      WAYPOINT_POD,
      ...two.slice(1),
    ];
    const exclude = new Set(["c//Pod/ns/waypoint"]);
    assert.equal(
      shown(decide(changes, "127.0.0.3:80", { exclude })),
      "REFUSE unknown waypoint: waypoint /127.9.9.9 has no healthy endpoint",
    );
  });
});

describe("a workload that is known by its name", () => {
  const changes = [
    service("127.0.0.3", { ipFamilies: undefined }),
    pod("db", "", { addresses: [], hostname: "db.example.com", protocol: "TCP", services: endpoint() }),
  ];
  const complete = (answer: { addresses: string[] } | { error: string }, destination = "127.0.0.3:80") => {
    const extra = service("127.0.0.3", {
      vips: [
        { network: "", ip: "127.0.0.3" },
        { network: "", ip: "fd00::3" },
      ],
    });
    const decision = decide([...changes, extra], destination);
    assert.ok(decision.kind === "dns");
    return shown(decision.complete(answer));
  };

  it("is connected to at an address of the request's family", () => {
    assert.equal(complete({ addresses: ["fd00::8", "1.1.1.1"] }), "TCP 1.1.1.1:8080");
    assert.equal(complete({ addresses: ["fd00::8", "1.1.1.1"] }, "[fd00::3]:80"), "TCP [fd00::8]:8080");
    assert.equal(complete({ addresses: ["fd00::8"] }), "TCP [fd00::8]:8080");
  });

  it("is refused when the name leads nowhere", () => {
    assert.equal(complete({ error: "timed out" }), "REFUSE dns lookup: timed out");
    assert.equal(
      complete({ addresses: [] }),
      "REFUSE no ip addresses were resolved for workload: Workload{db with uid c//Pod/ns/db (TCP)}",
    );
  });
});

function workloadOf(change: MeshChange): Workload {
  assert.ok(change.kind === "workload");
  return change.workload;
}

function cidrs(...texts: string[]) {
  return texts.map(parseCidr).filter((cidr) => cidr !== undefined);
}
