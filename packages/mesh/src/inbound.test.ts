import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatSocketAddress } from "@tulle/base";
import * as fc from "fast-check";
import { newService, newWorkload } from "./defaults.ts";
import { type InboundDecision, inboundService, isIllegalPort, resolveInbound } from "./inbound.ts";
import type { ApplicationTunnel, GatewayAddress, MeshChange, Service, Workload } from "./model.ts";
import { MeshState } from "./state.ts";

const SERVER = "127.0.0.2";
const VIP = "10.10.0.1";
const WAYPOINT = "127.0.0.3";
const WAYPOINT_VIP = "10.10.0.2";

const BY_POD: GatewayAddress = { destination: { kind: "address", network: "", ip: WAYPOINT }, hboneMtlsPort: 15008 };
const BY_VIP: GatewayAddress = {
  destination: { kind: "address", network: "", ip: WAYPOINT_VIP },
  hboneMtlsPort: 15008,
};
const BY_NAME: GatewayAddress = {
  destination: { kind: "hostname", namespace: "ns", hostname: "wp.ns.svc" },
  hboneMtlsPort: 15008,
};

interface Setup {
  readonly workload?: Partial<Workload>;
  readonly service?: Partial<Service>;
  readonly tunnel?: ApplicationTunnel;
}

/** A server (service `web`, port 80 → 8080) and a waypoint in a pod of its own behind a service. */
function mesh(setup: Setup): MeshState {
  const state = new MeshState();
  const web = newService({ name: "web", namespace: "ns", hostname: "web.ns.svc", ports: new Map([[80, 8080]]) });
  const wp = newService({ name: "wp", namespace: "ns", hostname: "wp.ns.svc", ports: new Map([[15008, 15008]]) });
  const changes: MeshChange[] = [
    { kind: "service", service: { ...web, vips: [{ network: "", ip: VIP }], ...setup.service } },
    { kind: "service", service: { ...wp, vips: [{ network: "", ip: WAYPOINT_VIP }] } },
    {
      kind: "workload",
      workload: newWorkload({
        uid: "c//Pod/ns/server",
        name: "server",
        namespace: "ns",
        addresses: [SERVER, "fd00::2"],
        services: new Map([["ns/web.ns.svc", new Map([[80, 8080]])]]),
        ...setup.workload,
      }),
    },
    {
      kind: "workload",
      workload: newWorkload({
        uid: "c//Pod/ns/waypoint",
        name: "waypoint",
        namespace: "ns",
        addresses: [WAYPOINT],
        services: new Map([["ns/wp.ns.svc", new Map([[15008, 15008]])]]),
        applicationTunnel: setup.tunnel,
      }),
    },
    { kind: "workload", workload: newWorkload({ uid: "x", name: "x", namespace: "ns", hostname: "named.example" }) },
  ];
  for (const change of changes) state.apply(change);
  return state;
}

function decide(setup: Setup, at: "server" | "waypoint", authority: string | undefined, ip?: string): string {
  const state = mesh(setup);
  const local = state.workload(`c//Pod/ns/${at}`);
  assert.ok(local);
  const connectionDestination = { ip: ip ?? (at === "server" ? SERVER : WAYPOINT), port: 15008 };
  return shown(resolveInbound(state, { local, authority, connectionDestination, network: "" }));
}

function shown(decision: InboundDecision): string {
  return decision.kind === "connect"
    ? formatSocketAddress(decision.target)
    : `${decision.status} ${decision.code} ${decision.message}`;
}

describe("a CONNECT", () => {
  const cases: readonly (readonly [string, Setup, "server" | "waypoint", string | undefined, string, string?])[] = [
    ["for the pod's own address", {}, "server", `${SERVER}:8080`, `${SERVER}:8080`],
    ["for the pod's own address in disguise", {}, "server", `[::ffff:${SERVER}]:8080`, `${SERVER}:8080`],
    ["for the pod's v6 address, over v6", {}, "server", "[fd00::2]:8080", "[fd00::2]:8080", "fd00::2"],
    ["for the same v6 address in another spelling", {}, "server", "[FD00:0::2]:8080", "[fd00::2]:8080", "fd00::2"],
    [
      "for the pod's v6 address, over v4",
      {},
      "server",
      "[fd00::2]:8080",
      `400 IP_MISMATCH ip mismatch: ${SERVER} != fd00::2`,
    ],
    ["for the service's name", {}, "server", "web.ns.svc:80", `${SERVER}:8080`],
    ["for the service's name in capitals, with a dot", {}, "server", "WEB.ns.svc.:80", `${SERVER}:8080`],
    [
      "for a named port",
      {
        service: { ports: new Map([[80, 0]]) },
        workload: { services: new Map([["ns/web.ns.svc", new Map([[80, 1234]])]]) },
      },
      "server",
      "web.ns.svc:80",
      `${SERVER}:1234`,
    ],
    [
      "for a named port that the pod does not have",
      { service: { ports: new Map([[80, 0]]) }, workload: { services: new Map() } },
      "server",
      "web.ns.svc:80",
      "503 NO_TARGET_PORT requested service ns/web.ns.svc:80 found, but cannot resolve port",
    ],
    [
      "for a port that the service does not have",
      {},
      "server",
      "web.ns.svc:81",
      "503 NO_TARGET_PORT requested service ns/web.ns.svc:81 found, but cannot resolve port",
    ],
    ["for a workload's name", {}, "server", "named.example:80", `${SERVER}:80`],
    [
      "for a name that nobody has",
      {},
      "server",
      "gone.ns.svc:80",
      "503 UNKNOWN_HOSTNAME no service or workload for hostname: gone.ns.svc",
    ],
    ["for another pod", {}, "server", "127.0.0.9:80", `400 IP_MISMATCH ip mismatch: ${SERVER} != 127.0.0.9`],
    ["for loopback", {}, "server", "127.0.0.1:80", `400 IP_MISMATCH ip mismatch: ${SERVER} != 127.0.0.1`],
    ["for any address", {}, "server", "0.0.0.0:80", `400 IP_MISMATCH ip mismatch: ${SERVER} != 0.0.0.0`],
    [
      "for the service's address without waypoint",
      {},
      "server",
      `${VIP}:80`,
      `400 IP_MISMATCH ip mismatch: ${SERVER} != ${VIP}`,
    ],
    ["for our own port", {}, "server", `${SERVER}:15001`, "503 SELF_CALL attempted recursive call to ourselves"],
    ["for our own HBONE port", {}, "server", `${SERVER}:15008`, "503 SELF_CALL attempted recursive call to ourselves"],
    [
      "for our own plaintext port by name",
      { service: { ports: new Map([[80, 15006]]) }, workload: { services: new Map() } },
      "server",
      "web.ns.svc:80",
      "503 SELF_CALL attempted recursive call to ourselves",
    ],

    [
      "at a waypoint, for a pod that names it by address",
      { workload: { waypoint: BY_POD } },
      "waypoint",
      `${SERVER}:8080`,
      `${WAYPOINT}:8080`,
    ],
    [
      "at a waypoint, for a pod that names it by VIP",
      { workload: { waypoint: BY_VIP } },
      "waypoint",
      `${SERVER}:8080`,
      `${WAYPOINT}:8080`,
    ],
    [
      "at a waypoint, for a pod that names it by name",
      { workload: { waypoint: BY_NAME } },
      "waypoint",
      `${SERVER}:8080`,
      `${WAYPOINT}:8080`,
    ],
    [
      "at a waypoint, for a service that names it by address",
      { service: { waypoint: BY_POD } },
      "waypoint",
      `${VIP}:8080`,
      `${WAYPOINT}:8080`,
    ],
    [
      "at a waypoint, for a service that names it by VIP",
      { service: { waypoint: BY_VIP } },
      "waypoint",
      `${VIP}:8080`,
      `${WAYPOINT}:8080`,
    ],
    [
      "at a waypoint, for a pod that has none",
      {},
      "waypoint",
      `${SERVER}:8080`,
      `400 IP_MISMATCH ip mismatch: ${WAYPOINT} != ${SERVER}`,
    ],
    [
      "at a waypoint, for a pod whose service has it",
      { service: { waypoint: BY_VIP } },
      "waypoint",
      `${SERVER}:8080`,
      `400 IP_MISMATCH ip mismatch: ${WAYPOINT} != ${SERVER}`,
    ],
    [
      "at a waypoint, for a service whose pod has it",
      { workload: { waypoint: BY_VIP } },
      "waypoint",
      `${VIP}:8080`,
      `400 IP_MISMATCH ip mismatch: ${WAYPOINT} != ${VIP}`,
    ],
    [
      "at a waypoint, for a service that only sends it a share",
      { service: { weightedWaypoints: [{ destination: BY_VIP, weight: 1 }] } },
      "waypoint",
      `${VIP}:8080`,
      `400 IP_MISMATCH ip mismatch: ${WAYPOINT} != ${VIP}`,
    ],
    [
      "at a waypoint, for the client",
      { workload: { waypoint: BY_VIP } },
      "waypoint",
      "127.0.0.77:8080",
      `400 IP_MISMATCH ip mismatch: ${WAYPOINT} != 127.0.0.77`,
    ],
    [
      "at a pod that is not the waypoint",
      { service: { waypoint: BY_VIP } },
      "server",
      `${VIP}:8080`,
      `400 IP_MISMATCH ip mismatch: ${SERVER} != ${VIP}`,
    ],
    [
      "at a waypoint with an application tunnel",
      { workload: { waypoint: BY_VIP }, tunnel: { protocol: "PROXY", port: 15088 } },
      "waypoint",
      `${SERVER}:8080`,
      "503 UNSUPPORTED_FEATURE unsupported feature: application tunnel of waypoint",
    ],
    [
      "at a tunnel, for our own port",
      { tunnel: { protocol: "NONE", port: 15088 } },
      "waypoint",
      "127.0.0.77:15001",
      "503 SELF_CALL attempted recursive call to ourselves",
    ],

    ["without authority", {}, "server", undefined, "400 INVALID_AUTHORITY no valid authority pseudo header: missing"],
    ...[
      "",
      ":80",
      SERVER,
      `${SERVER}:`,
      `${SERVER}:x`,
      `${SERVER}:65536`,
      `${SERVER}:-1`,
      "fd00::2:80",
      "1.2.3:80",
      "256.1.1.1:80",
      "a b:80",
      "a/b:80",
      "a@b:80",
      "[web]:80",
      "web..svc:80",
      "é:80",
    ].map(
      (text) =>
        [
          `for "${text}"`,
          {},
          "server",
          text,
          `400 INVALID_AUTHORITY no valid authority pseudo header: ${text}`,
        ] as const,
    ),
  ];
  for (const [name, setup, at, authority, expected, ip] of cases) {
    it(name, () => {
      assert.equal(decide(setup, at, authority, ip), expected);
    });
  }

  it("never leads anywhere but to the local pod, whatever it asks for", () => {
    const authority = fc.oneof(
      fc.string(),
      fc.ipV4().map((ip) => `${ip}:80`),
      fc.ipV6().map((ip) => `[${ip}]:80`),
      fc.domain().map((name) => `${name}:80`),
    );
    fc.assert(
      fc.property(authority, fc.constantFrom(undefined, BY_POD, BY_VIP), (text, waypoint) => {
        const state = mesh({ workload: { waypoint }, service: { waypoint } });
        const local = state.workload("c//Pod/ns/server");
        assert.ok(local);
        const connectionDestination = { ip: SERVER, port: 15008 };
        const decision = resolveInbound(state, { local, authority: text, connectionDestination, network: "" });
        if (decision.kind === "connect") assert.equal(decision.target.ip, SERVER);
      }),
    );
  });
});

describe("the service that an inbound connection is counted for", () => {
  const state = mesh({
    workload: {
      services: new Map([
        ["ns/web.ns.svc", new Map([[80, 8080]])],
        ["ns/wp.ns.svc", new Map([[15008, 9090]])],
        ["ns/gone.ns.svc", new Map([[80, 7070]])],
      ]),
    },
  });
  const local = state.workload("c//Pod/ns/server");
  assert.ok(local);
  const cases = [
    [8080, undefined, "web.ns.svc"],
    [9090, undefined, "wp.ns.svc"],
    [9090, "web.ns.svc", "web.ns.svc"],
    [8080, "other.example", "web.ns.svc"],
    [7070, undefined, undefined],
    [1, undefined, undefined],
  ] as const;
  for (const [port, host, expected] of cases) {
    it(`on port ${port}, said to be for ${host ?? "nothing"}, is ${expected ?? "unknown"}`, () => {
      assert.equal(inboundService(state, local, port, host)?.hostname, expected);
    });
  }
});

describe("plaintext", () => {
  it("may not be sent to our own ports", () => {
    assert.deepEqual([15001, 15006, 15008, 15053, 80].map(isIllegalPort), [true, true, true, false, false]);
  });
});
