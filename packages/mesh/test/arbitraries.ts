import { type Cidr, cidrOf, ipFromBytes } from "@tulle/base";
import * as fc from "fast-check";
import type {
  GatewayAddress,
  MeshChange,
  Policy,
  PolicyMatch,
  RoutingScope,
  Service,
  StringMatch,
  Workload,
} from "../src/model.ts";

/** Records with the ordinary prototype, so that they equal object literals. */
function record<T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(fields, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

/** Names from a small pool, so that resources refer to each other, and now and then any text at all. */
export const word = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom("a", "b", "default", "web", "") },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
);

export const network = fc.constantFrom("", "net2");

const plainBytes = fc.oneof(
  fc.tuple(fc.constant(10), fc.constant(0), fc.constant(0), fc.nat(7)),
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => [...bytes]),
  fc.nat(7).map((last) => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
);

export const ip = plainBytes.map((bytes) => ipFromBytes(Uint8Array.from(bytes)) ?? "10.0.0.1");

export const cidr: fc.Arbitrary<Cidr> = fc.tuple(plainBytes, fc.nat(128)).map(([bytes, bits]) => {
  const range = cidrOf(Uint8Array.from(bytes), Math.min(bits, bytes.length * 8));
  if (range === undefined) throw new Error("impossible range");
  return range;
});

export const port = fc.oneof(fc.constantFrom(80, 8080, 15008), fc.nat(65535));

export const gateway: fc.Arbitrary<GatewayAddress> = record({
  destination: fc.oneof(
    record({ kind: fc.constant("address" as const), network, ip }),
    record({ kind: fc.constant("hostname" as const), namespace: word, hostname: word }),
  ),
  hboneMtlsPort: port,
});

const ports = fc.array(fc.tuple(port, port), { maxLength: 3 }).map((entries) => new Map(entries));
const serviceRef = fc
  .tuple(fc.constantFrom("a", "b"), fc.constantFrom("web", "db"))
  .map(([ns, host]) => `${ns}/${host}`);
const policyRef = fc.tuple(fc.constantFrom("a", "b"), fc.constantFrom("p", "q")).map(([ns, name]) => `${ns}/${name}`);
const uid = fc.oneof(
  fc.tuple(fc.constantFrom("c//Pod/a/", "c/networking.istio.io/WorkloadEntry/a/"), fc.nat(5)).map(([p, n]) => p + n),
);

export const workload: fc.Arbitrary<Workload> = record({
  uid,
  name: word,
  namespace: fc.constantFrom("a", "b"),
  trustDomain: word,
  serviceAccount: word,
  addresses: fc.array(ip, { maxLength: 3 }),
  hostname: word,
  network,
  protocol: fc.constantFrom("HBONE", "TCP"),
  hostNetwork: fc.boolean(),
  nativeTunnel: fc.boolean(),
  node: word,
  waypoint: fc.option(gateway, { nil: undefined }),
  networkGateway: fc.option(gateway, { nil: undefined }),
  applicationTunnel: fc.option(
    record({ protocol: fc.constantFrom("PROXY", "NONE"), port: fc.option(port, { nil: undefined }) }),
    { nil: undefined },
  ),
  services: fc.array(fc.tuple(serviceRef, ports), { maxLength: 3 }).map((entries) => new Map(entries)),
  authorizationPolicies: fc.array(policyRef, { maxLength: 3 }),
  healthy: fc.boolean(),
  capacity: fc.oneof(fc.constantFrom(0, 1, 2), fc.nat(0xffffffff)),
  clusterId: word,
  locality: record({ region: word, zone: word, subzone: word }),
  workloadName: word,
  workloadType: fc.constantFrom("deployment", "cronjob", "pod", "job"),
  canonicalName: word,
  canonicalRevision: word,
});

const scope: fc.Arbitrary<RoutingScope> = fc.constantFrom("Network", "Region", "Zone", "Subzone", "Node", "Cluster");

export const service: fc.Arbitrary<Service> = fc
  .record(
    {
      name: word,
      namespace: fc.constantFrom("a", "b"),
      hostname: fc.constantFrom("web", "db"),
      vips: fc.array(record({ network, ip }), { maxLength: 3 }),
      cidrVips: fc.array(record({ network, cidr }), { maxLength: 2 }),
      ports,
      subjectAltNames: fc.array(word, { maxLength: 2 }),
      waypoint: fc.option(gateway, { nil: undefined }),
      weightedWaypoints: fc.array(record({ destination: gateway, weight: fc.nat(100) }), { maxLength: 2 }),
      loadBalancer: fc.option(
        record({
          routingPreferences: fc.array(scope, { maxLength: 4 }),
          mode: fc.constantFrom("Standard", "Strict", "Failover", "Passthrough"),
          healthPolicy: fc.constantFrom("OnlyHealthy", "AllowAll"),
        }),
        { nil: undefined },
      ),
      ipFamilies: fc.constantFrom(undefined, "IPv4", "IPv6", "Dual"),
      canonical: fc.boolean(),
      visibility: fc.constantFrom("Public", "Namespace"),
      appProtocols: fc
        .array(fc.tuple(port, fc.constantFrom("HTTP11", "HTTP2", "GRPC", "TCP", "TLS")), { maxLength: 2 })
        .map((entries) => new Map(entries)),
      ingressUseWaypoint: fc.boolean(),
    },
    {
      noNullPrototype: true,
      requiredKeys: [
        "name",
        "namespace",
        "hostname",
        "vips",
        "cidrVips",
        "ports",
        "subjectAltNames",
        "waypoint",
        "weightedWaypoints",
        "loadBalancer",
        "ipFamilies",
        "canonical",
        "visibility",
      ],
    },
  )
  .map((value) => value as Service);

export const stringMatch: fc.Arbitrary<StringMatch> = fc.oneof(
  record({ kind: fc.constantFrom("exact" as const, "prefix" as const, "suffix" as const), value: word }),
  fc.constant({ kind: "presence" as const }),
);

/** Mostly empty fields, as in real policies. */
const few = <T>(item: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(item, { maxLength: 2 }) });

export const match: fc.Arbitrary<PolicyMatch> = record({
  namespaces: few(stringMatch),
  notNamespaces: few(stringMatch),
  principals: few(stringMatch),
  notPrincipals: few(stringMatch),
  serviceAccounts: few(record({ namespace: word, serviceAccount: word })),
  notServiceAccounts: few(record({ namespace: word, serviceAccount: word })),
  sourceIps: few(cidr),
  notSourceIps: few(cidr),
  destinationIps: few(cidr),
  notDestinationIps: few(cidr),
  destinationPorts: few(port),
  notDestinationPorts: few(port),
});

export const policy: fc.Arbitrary<Policy> = record({
  name: fc.constantFrom("p", "q"),
  namespace: fc.constantFrom("a", "b"),
  scope: fc.constantFrom("Global", "Namespace", "WorkloadSelector"),
  action: fc.constantFrom("Allow", "Deny"),
  dryRun: fc.boolean(),
  rules: fc.array(fc.array(fc.array(match, { maxLength: 2 }), { maxLength: 3 }), { maxLength: 3 }),
});

export const change: fc.Arbitrary<MeshChange> = fc.oneof(
  workload.map((value) => ({ kind: "workload" as const, workload: value })),
  service.map((value) => ({ kind: "service" as const, service: value })),
  policy.map((value) => ({ kind: "policy" as const, policy: value })),
  uid.map((value) => ({ kind: "remove-workload" as const, uid: value })),
  serviceRef.map((key) => ({ kind: "remove-service" as const, key })),
  policyRef.map((key) => ({ kind: "remove-policy" as const, key })),
  fc.constant({ kind: "synced" as const }),
);
