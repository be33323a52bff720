import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, security, wds } from "@tulle/api";
import { parseCidr } from "@tulle/base";
import * as fc from "fast-check";
import { policy, service, workload } from "../test/arbitraries.ts";
import { newMatch, newPolicy, newService, newWorkload } from "./defaults.ts";
import type { Service, Workload } from "./model.ts";
import { aliasesOf, decodeAddress, decodeAuthorization, encodeResource, removedAddress } from "./wds.ts";

describe("resources over xDS", () => {
  it("come back as they were", () => {
    fc.assert(
      fc.property(workload.map(sendableWorkload), service.map(sendableService), policy, (w, s, p) => {
        const changes = [
          { kind: "workload", workload: w },
          { kind: "service", service: s },
          { kind: "policy", policy: p },
        ] as const;
        for (const change of changes) {
          const { value } = encodeResource(change);
          const back = change.kind === "policy" ? decodeAuthorization(value) : decodeAddress(value);
          assert.deepEqual(back, { ok: true, value: change });
        }
      }),
      { numRuns: 300 },
    );
  });

  it("are equal bytes when they are equal, whatever the order of their maps", () => {
    const ports: [number, number][] = [
      [80, 8080],
      [443, 8443],
    ];
    assert.deepEqual(bytesWithPorts(ports), bytesWithPorts(ports.toReversed()));
  });

  it("are named by uid, namespace/hostname and namespace/name", () => {
    const name = "x";
    const namespace = "a";
    assert.equal(encodeResource({ kind: "workload", workload: newWorkload({ uid: "u", name, namespace }) }).name, "u");
    const web = newService({ name, namespace, hostname: "web" });
    assert.deepEqual(encodeResource({ kind: "service", service: web }).name, "a/web");
    assert.equal(encodeResource({ kind: "service", service: web }).typeUrl, ADDRESS_TYPE);
    const deny = newPolicy({ name, namespace, action: "Deny", rules: [] });
    assert.equal(encodeResource({ kind: "policy", policy: deny }).name, "a/x");
  });

  it("have their addresses as aliases", () => {
    const cidr = parseCidr("10.1.0.0/16");
    assert.ok(cidr);
    const one = newService({
      name: "x",
      namespace: "a",
      hostname: "h",
      vips: [{ network: "", ip: "10.0.0.1" }],
      cidrVips: [{ network: "n", cidr }],
    });
    assert.deepEqual(aliasesOf(one), ["/10.0.0.1", "n/10.1.0.0/16"]);
    assert.deepEqual(aliasesOf(newWorkload({ uid: "u", name: "x", namespace: "a", addresses: ["::1"] })), ["/::1"]);
  });

  it("take the protocol's defaults", () => {
    const bytes = addressOf({
      case: "workload",
      value: create(wds.WorkloadSchema, { uid: "u", name: "n", namespace: "a" }),
    });
    assert.deepEqual(decodeAddress(bytes), {
      ok: true,
      value: { kind: "workload", workload: newWorkload({ uid: "u", name: "n", namespace: "a" }) },
    });
  });
});

describe("removal by name", () => {
  const known = new Set<string>(["a/both", "c//Pod/a/p"]);
  for (const [name, expected] of [
    ["c//Pod/a/p", { kind: "remove-workload", uid: "c//Pod/a/p" }],
    ["a/both", { kind: "remove-workload", uid: "a/both" }],
    ["a/web.a.svc", { kind: "remove-service", key: "a/web.a.svc" }],
    ["c//Pod/a/gone", undefined],
    ["nothing", undefined],
  ] as const) {
    it(`of ${name} is ${expected?.kind ?? "ignored"}`, () => {
      assert.deepEqual(
        removedAddress(name, (uid) => known.has(uid)),
        expected,
      );
    });
  }
});

describe("a resource is rejected", () => {
  const workloads: [string, RegExp, MessageInitShape<typeof wds.WorkloadSchema>][] = [
    ["with an unknown tunnel protocol", /tunnel protocol: 7/, { tunnelProtocol: unknown(7) }],
    ["with the legacy mTLS tunnel", /tunnel protocol: 2/, { tunnelProtocol: wds.TunnelProtocol.LEGACY_ISTIO_MTLS }],
    ["with an unknown network mode", /network mode: 9/, { networkMode: unknown(9) }],
    ["with an unknown status", /workload status: 5/, { status: unknown(5) }],
    ["with an unknown application tunnel", /tunnel protocol: 4/, { applicationTunnel: { protocol: unknown(4) } }],
    ["with an address of 5 bytes", /address of 5 bytes/, { addresses: [new Uint8Array(5)] }],
    ["with an empty address", /address of 0 bytes/, { addresses: [new Uint8Array(0)] }],
    ["with a waypoint that is nowhere", /waypoint without a destination/, { waypoint: { hboneMtlsPort: 15008 } }],
    ["with a gateway on no port", /network gateway 70000 is no port/, { networkGateway: { hboneMtlsPort: 70000 } }],
    ["with a service key without namespace", /service key "web"/, { services: { web: {} } }],
    ["with a port beyond 65535", /target port 65616/, { services: { "a/b": { ports: [{ targetPort: 65616 }] } } }],
  ];
  for (const [name, reason, init] of workloads) {
    it(name, () => {
      rejects(decodeAddress(addressOf({ case: "workload", value: create(wds.WorkloadSchema, init) })), reason);
    });
  }

  const services: [string, RegExp, MessageInitShape<typeof wds.ServiceSchema>][] = [
    ["with an unknown mode", /mode: 8/, { loadBalancing: { mode: unknown(8) } }],
    ["with an unknown health policy", /health policy: 8/, { loadBalancing: { healthPolicy: unknown(8) } }],
    ["with an unspecified scope", /routing scope: 0/, { loadBalancing: { routingPreference: [0] } }],
    ["with unknown families", /ip families: 4/, { ipFamilies: unknown(4) }],
    ["with a VIP of 3 bytes", /of 3 bytes/, { addresses: [{ address: new Uint8Array(3) }] }],
    ["with too long a range", /10.0.0.0\/33/, { addresses: [{ address: Uint8Array.of(10, 0, 0, 0), length: 33 }] }],
    ["with a weighted waypoint that is nowhere", /weighted waypoint without/, { weightedWaypoints: [{ weight: 1 }] }],
  ];
  for (const [name, reason, init] of services) {
    it(`as a service ${name}`, () => {
      rejects(decodeAddress(addressOf({ case: "service", value: create(wds.ServiceSchema, init) })), reason);
    });
  }

  const policies: [string, RegExp, MessageInitShape<typeof security.AuthorizationSchema>][] = [
    ["with an unknown scope", /scope: 3/, { scope: unknown(3) }],
    ["with an unknown action", /action: 2/, { action: unknown(2) }],
    ["with a string match without a value", /without a value/, withMatch({ principals: [{}] })],
    ["with a range of no address", /of 0 bytes/, withMatch({ sourceIps: [{ length: 8 }] })],
    ["with a prefix beyond its address", /33/, withMatch({ sourceIps: [{ address: new Uint8Array(4), length: 33 }] })],
    ["with a port beyond 65535", /65616 is no port/, withMatch({ destinationPorts: [65616] })],
  ];
  for (const [name, reason, init] of policies) {
    it(`as a policy ${name}`, () => {
      const bytes = toBinary(security.AuthorizationSchema, create(security.AuthorizationSchema, init));
      rejects(decodeAuthorization(bytes), reason);
    });
  }

  it("when it is neither a workload nor a service", () => {
    rejects(decodeAddress(new Uint8Array()), /unknown address type/);
  });

  it("when it is no protobuf", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        for (const result of [decodeAddress(bytes), decodeAuthorization(bytes)])
          assert.equal(typeof result.ok, "boolean");
      }),
    );
    assert.equal(decodeAddress(Uint8Array.of(0x0a, 0xff)).ok, false);
  });
});

describe("lenient fields", () => {
  it("an unknown workload type is a deployment, an unknown visibility is public", () => {
    const w = create(wds.WorkloadSchema, { workloadType: unknown(44) });
    const s = create(wds.ServiceSchema, { visibility: unknown(44) });
    const decodedWorkload = decodeAddress(addressOf({ case: "workload", value: w }));
    const decodedService = decodeAddress(addressOf({ case: "service", value: s }));
    assert.ok(decodedWorkload.ok && decodedWorkload.value.kind === "workload");
    assert.equal(decodedWorkload.value.workload.workloadType, "deployment");
    assert.ok(decodedService.ok && decodedService.value.kind === "service");
    assert.equal(decodedService.value.service.visibility, "Public");
  });

  it("a range of one address is a VIP, and mapped addresses are IPv4", () => {
    const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 0);
    const value = create(wds.ServiceSchema, {
      addresses: [
        { address: Uint8Array.of(10, 0, 0, 1), length: 32 },
        { address: mapped },
        { address: mapped, length: 112 },
        { address: mapped, length: 128 },
      ],
    });
    const result = decodeAddress(addressOf({ case: "service", value }));
    assert.ok(result.ok && result.value.kind === "service");
    const { vips, cidrVips } = result.value.service;
    assert.deepEqual(
      vips.map((vip) => vip.ip),
      ["10.0.0.1", "10.1.0.0", "10.1.0.0"],
    );
    assert.deepEqual(cidrVips, [{ network: "", cidr: parseCidr("10.1.0.0/16") }]);
  });

  it("a policy's range on a mapped address is an IPv4 range", () => {
    const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0);
    const init = { rules: [{ clauses: [{ matches: [{ sourceIps: [{ address: mapped, length: 104 }] }] }] }] };
    const bytes = toBinary(security.AuthorizationSchema, create(security.AuthorizationSchema, init));
    const result = decodeAuthorization(bytes);
    assert.ok(result.ok && result.value.kind === "policy");
    const range = parseCidr("10.0.0.0/8");
    assert.ok(range);
    assert.deepEqual(result.value.policy.rules, [[[newMatch({ sourceIps: [range] })]]]);
  });
});

function withMatch(match: MessageInitShape<typeof security.MatchSchema>) {
  return { rules: [{ clauses: [{ matches: [match] }] }] };
}

function bytesWithPorts(ports: [number, number][]): Uint8Array {
  const keys = ports.length > 0 && ports[0]?.[0] === 80 ? ["a/x", "a/b"] : ["a/b", "a/x"];
  const services = new Map(keys.map((key) => [key, new Map(ports)]));
  return encodeResource({ kind: "workload", workload: newWorkload({ uid: "u", name: "n", namespace: "a", services }) })
    .value;
}

function rejects(result: ReturnType<typeof decodeAddress>, reason: RegExp): void {
  assert.ok(!result.ok);
  assert.match(result.reason, reason);
}

function addressOf(type: wds.Address["type"]): Uint8Array {
  return toBinary(wds.AddressSchema, create(wds.AddressSchema, { type }));
}

/** A number that the enum does not have. */
function unknown(value: number): never {
  return value as never;
}

/** What the wire cannot tell apart from its default is the default. */
function sendableWorkload(from: Workload): Workload {
  return {
    ...from,
    trustDomain: from.trustDomain || "cluster.local",
    serviceAccount: from.serviceAccount || "default",
    clusterId: from.clusterId || "Kubernetes",
    applicationTunnel: from.applicationTunnel && {
      protocol: from.applicationTunnel.protocol,
      port: from.applicationTunnel.port || undefined,
    },
  };
}

function sendableService({ appProtocols, ingressUseWaypoint, ...from }: Service): Service {
  const known = new Map([...(appProtocols ?? [])].filter(([port]) => from.ports.has(port)));
  return {
    ...from,
    cidrVips: from.cidrVips.filter(({ cidr }) => cidr.bits < cidr.bytes.length * 8),
    ...(known.size === 0 ? {} : { appProtocols: known }),
    ...(ingressUseWaypoint ? { ingressUseWaypoint } : {}),
  };
}
