import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { convert, type KubeObjects } from "../convert.ts";
import type { GatewayAddress } from "../model.ts";
import { type Condition, DEFAULT_MESH_SETTINGS, type MeshSettings } from "./context.ts";
import type { KubeGateway, KubeListener } from "./istio-objects.ts";
import type { Labels } from "./kubernetes.ts";

type Outcome = "bound" | "refused" | "without";

const USE = "istio.io/use-waypoint";
const USE_NAMESPACE = "istio.io/use-waypoint-namespace";
const CANARY = "istio.io/use-waypoint-canary";
const WEIGHT = "istio.io/use-waypoint-canary-weight";
const INGRESS = "istio.io/ingress-use-waypoint";
const OPTIONAL = "ambient.tulle.dev/waypoint-optional";

const HBONE: KubeListener = { name: "mesh", port: 15008, protocol: "HBONE" };
const FOR_ALL: KubeListener = { ...HBONE, allowedRoutes: { namespaces: { from: "All" } } };
const CLOSED = `. Traffic is refused until this is solved; annotation ${OPTIONAL}=true lets it pass without`;
const OPEN = ". Traffic goes without a waypoint";

interface Case {
  readonly name: string;
  readonly labels?: Labels;
  readonly annotations?: Labels;
  readonly inherited?: Labels;
  readonly inheritedAnnotations?: Labels;
  readonly gateways?: readonly KubeGateway[];
  readonly service: Outcome;
  /** Reason of the Service's condition; undefined: no condition. */
  readonly reason?: string;
  readonly pod: Outcome;
}

const ready = gateway("wp", {});
const cases: readonly Case[] = [
  { name: "no label", service: "without", pod: "without" },
  { name: "an empty label", labels: { [USE]: "" }, service: "without", pod: "without" },
  {
    name: "its own label, for services",
    labels: { [USE]: "wp" },
    service: "bound",
    reason: "WaypointAccepted",
    pod: "refused",
  },
  {
    name: "its own label, for workloads",
    labels: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "workload" })],
    service: "refused",
    reason: "UnsupportedTrafficType",
    pod: "bound",
  },
  {
    name: "its own label, for all",
    labels: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "all" })],
    service: "bound",
    reason: "WaypointAccepted",
    pod: "bound",
  },
  {
    name: "its own label, for none",
    labels: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "none" })],
    service: "refused",
    reason: "UnsupportedTrafficType",
    pod: "refused",
  },
  {
    name: "its own label, for something unknown",
    labels: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "everything" })],
    service: "refused",
    reason: "UnsupportedTrafficType",
    pod: "refused",
  },
  {
    name: "the namespace's label, for services",
    inherited: { [USE]: "wp" },
    service: "bound",
    reason: "WaypointAccepted",
    pod: "without",
  },
  {
    name: "the namespace's label, for workloads",
    inherited: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "workload" })],
    service: "without",
    reason: "UnsupportedTrafficType",
    pod: "bound",
  },
  {
    name: "the namespace's label, for all",
    inherited: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "all" })],
    service: "bound",
    reason: "WaypointAccepted",
    pod: "bound",
  },
  {
    name: "none beats the namespace",
    labels: { [USE]: "none" },
    inherited: { [USE]: "wp" },
    service: "without",
    pod: "without",
  },
  { name: "the namespace says none", inherited: { [USE]: "none" }, service: "without", pod: "without" },
  {
    name: "an own label that resolves to nothing does not fall back to the namespace's",
    labels: { [USE]: "missing" },
    inherited: { [USE]: "wp" },
    service: "refused",
    reason: "WaypointIsNotReady",
    pod: "refused",
  },
  {
    name: "a namespace's label that resolves to nothing",
    inherited: { [USE]: "missing" },
    service: "refused",
    reason: "WaypointIsNotReady",
    pod: "refused",
  },
  {
    name: "a Gateway without address",
    labels: { [USE]: "wp" },
    gateways: [{ ...ready, status: { addresses: [] } }],
    service: "refused",
    reason: "WaypointIsNotReady",
    pod: "refused",
  },
  {
    name: "a namespace's Gateway without address, for services",
    inherited: { [USE]: "wp" },
    gateways: [{ ...ready, status: {} }],
    service: "refused",
    reason: "WaypointIsNotReady",
    pod: "without",
  },
  {
    name: "a missing waypoint that the object calls optional",
    labels: { [USE]: "missing" },
    annotations: { [OPTIONAL]: "true" },
    service: "without",
    reason: "WaypointIsNotReady",
    pod: "without",
  },
  {
    name: "a missing waypoint that the namespace calls optional",
    labels: { [USE]: "missing" },
    inheritedAnnotations: { [OPTIONAL]: "true" },
    service: "without",
    reason: "WaypointIsNotReady",
    pod: "without",
  },
  {
    name: "the object's word on what is optional beats the namespace's",
    labels: { [USE]: "missing" },
    annotations: { [OPTIONAL]: "false" },
    inheritedAnnotations: { [OPTIONAL]: "true" },
    service: "refused",
    reason: "WaypointIsNotReady",
    pod: "refused",
  },
  {
    name: "what is no boolean makes nothing optional",
    labels: { [USE]: "missing" },
    annotations: { [OPTIONAL]: "yes" },
    service: "refused",
    reason: "WaypointIsNotReady",
    pod: "refused",
  },
  {
    name: "a waypoint elsewhere that admits its own namespace only",
    labels: { [USE]: "far", [USE_NAMESPACE]: "other" },
    gateways: [gateway("far", { namespace: "other" })],
    service: "refused",
    reason: "AttachmentDenied",
    pod: "refused",
  },
  {
    name: "a waypoint elsewhere that admits all",
    labels: { [USE]: "far", [USE_NAMESPACE]: "other" },
    gateways: [gateway("far", { namespace: "other", for: "all", listeners: [FOR_ALL] })],
    service: "bound",
    reason: "WaypointAccepted",
    pod: "bound",
  },
  {
    name: "a namespace's waypoint elsewhere that admits it by its labels",
    inherited: { [USE]: "far", [USE_NAMESPACE]: "other", team: "a" },
    gateways: [gateway("far", { namespace: "other", for: "all", listeners: [selecting({ team: "a" })] })],
    service: "bound",
    reason: "WaypointAccepted",
    pod: "bound",
  },
  {
    name: "a waypoint elsewhere that admits others by their labels",
    inherited: { [USE]: "far", [USE_NAMESPACE]: "other", team: "a" },
    gateways: [gateway("far", { namespace: "other", for: "all", listeners: [selecting({ team: "b" })] })],
    service: "refused",
    reason: "AttachmentDenied",
    pod: "refused",
  },
  {
    name: "a selector that is missing admits nobody",
    labels: { [USE]: "wp" },
    gateways: [
      gateway("wp", { for: "all", listeners: [{ ...HBONE, allowedRoutes: { namespaces: { from: "Selector" } } }] }),
    ],
    service: "refused",
    reason: "AttachmentDenied",
    pod: "refused",
  },
  {
    name: "None admits nobody",
    labels: { [USE]: "wp" },
    gateways: [
      gateway("wp", { for: "all", listeners: [{ ...HBONE, allowedRoutes: { namespaces: { from: "None" } } }] }),
    ],
    service: "refused",
    reason: "AttachmentDenied",
    pod: "refused",
  },
  {
    name: "objects of a waypoint are not behind it",
    labels: { "gateway.istio.io/managed": "istio.io-mesh-controller" },
    inherited: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "all" })],
    service: "without",
    pod: "without",
  },
  {
    name: "objects of a gateway between networks are not behind a waypoint",
    labels: { "gateway.istio.io/managed": "istio.io-eastwest-controller" },
    inherited: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "all" })],
    service: "without",
    pod: "without",
  },
  {
    name: "objects of a Gateway of any class are not behind that Gateway",
    labels: { "gateway.networking.k8s.io/gateway-name": "wp" },
    inherited: { [USE]: "wp" },
    gateways: [gateway("wp", { for: "all" })],
    service: "without",
    pod: "without",
  },
];

describe("a reference to a waypoint", () => {
  for (const one of cases) {
    it(one.name, () => {
      const { labels = {}, annotations = {}, gateways = [ready] } = one;
      const { resources, statuses } = convert(world({ ...one, labels, annotations, gateways }));
      const service = resources.find(({ kind }) => kind === "service");
      const pod = resources.find(({ kind }) => kind === "workload");
      assert.ok(service?.kind === "service" && pod?.kind === "workload");
      assert.equal(outcome(service.service.waypoint), one.service, "service");
      assert.equal(outcome(pod.workload.waypoint), one.pod, "pod");
      const condition = statuses.find(({ kind }) => kind === "Service")?.conditions[0];
      assert.equal(condition?.reason, one.reason);
      if (condition === undefined) return;
      assert.equal(condition.status, one.service === "bound" ? "True" : "False");
      if (one.service === "refused") assert.ok(condition.message.endsWith(CLOSED), condition.message);
      if (one.service === "without") assert.ok(condition.message.endsWith(OPEN), condition.message);
    });
  }

  it("is told of in words that tools know", () => {
    const said = (labels: Labels, gateways: readonly KubeGateway[] = [ready]) =>
      conditionOf(convert(world({ labels, gateways })).statuses, "Service")?.message;
    assert.equal(said({ [USE]: "wp" }), "Successfully attached to waypoint app/wp");
    assert.equal(said({ [USE]: "no" }), `waypoint "app/no" is not ready${CLOSED}`);
    assert.equal(
      said({ [USE]: "far", [USE_NAMESPACE]: "other" }, [gateway("far", { namespace: "other" })]),
      `not permitted to attach to waypoint "other/far" (missing allowedRoutes?)${CLOSED}`,
    );
    assert.equal(
      said({ [USE]: "wp" }, [gateway("wp", { for: "workload" })]),
      `attempting to bind to traffic type "service" which the waypoint "app/wp" does not support${CLOSED}`,
    );
    assert.equal(
      said({ [USE]: "wp", [INGRESS]: "true" }),
      "Successfully attached to waypoint app/wp. Ingress traffic will traverse the waypoint",
    );
    assert.equal(
      said({ [USE]: "wp", [INGRESS]: "maybe" }),
      "Successfully attached to waypoint app/wp. Ingress traffic is not using the waypoint, set the " +
        "istio.io/ingress-use-waypoint label to true if desired.",
    );
  });

  it("is told of at pods, too, by a writer of our own", () => {
    const { statuses } = convert(world({ labels: { [USE]: "wp" } }));
    const pod = statuses.find(({ kind }) => kind === "Pod");
    assert.deepEqual([pod?.manager, pod?.conditions[0]?.reason], ["tulle-ambient-pod", "UnsupportedTrafficType"]);
  });

  it("that is refused names a waypoint that no service can be", () => {
    assert.deepEqual(waypointOf({ labels: { [USE]: "far", [USE_NAMESPACE]: "other" } }), {
      destination: { kind: "hostname", namespace: "other", hostname: "far.other.waypoint.invalid" },
      hboneMtlsPort: 15008,
    });
  });
});

describe("a waypoint", () => {
  const addresses: readonly (readonly [string, NonNullable<KubeGateway["status"]>["addresses"], unknown])[] = [
    [
      "a hostname goes before addresses",
      [{ value: "10.0.0.1" }, { type: "Hostname", value: "wp.app" }],
      { kind: "hostname", namespace: "app", hostname: "wp.app" },
    ],
    [
      "the first address that is one",
      [{ type: "IPAddress", value: "x" }, { value: "FD00::1" }, { value: "10.0.0.1" }],
      { kind: "address", network: "", ip: "fd00::1" },
    ],
  ];
  for (const [name, list, expected] of addresses) {
    it(`is found by its status: ${name}`, () => {
      const address = waypointOf({ labels: { [USE]: "wp" }, gateways: [{ ...ready, status: { addresses: list } }] });
      assert.deepEqual(address, { destination: expected, hboneMtlsPort: 15008 });
    });
  }

  it("takes its class's labels and annotations where it has none", () => {
    const of = (own: Labels, inherited: Labels) => {
      const gatewayClasses = [{ metadata: { name: "istio-waypoint", labels: inherited } }];
      const gateways = [{ ...ready, metadata: { ...ready.metadata, labels: own } }];
      return outcome(waypointOf({ labels: { [USE]: "wp" }, gateways, gatewayClasses }));
    };
    const type = "istio.io/waypoint-for";
    assert.equal(of({}, { [type]: "workload" }), "refused");
    assert.equal(of({ [type]: "all" }, { [type]: "workload" }), "bound");
  });

  const tunnels: readonly (readonly [annotation: string, listeners: readonly KubeListener[], expected: unknown])[] = [
    ["PROXY", [HBONE], { protocol: "PROXY", port: undefined }],
    ["PROXY/15088", [HBONE], { protocol: "PROXY", port: 15088 }],
    ["NONE/80", [HBONE], { protocol: "NONE", port: 80 }],
    ["HTTP/80", [HBONE], undefined],
    ["PROXY/x", [HBONE], undefined],
    ["PROXY/1/2", [HBONE], undefined],
  ];
  for (const [annotation, listeners, expected] of tunnels) {
    it(`hands connections to its own pods as it says: ${annotation}`, () => {
      const annotations = { "ambient.istio.io/waypoint-inbound-binding": annotation };
      const own = { ...gateway("wp", { listeners }), metadata: { name: "wp", namespace: "app", annotations } };
      const labels = { "gateway.networking.k8s.io/gateway-name": "wp" };
      const { resources } = convert(world({ labels, gateways: [own] }));
      const pod = resources.find(({ kind }) => kind === "workload");
      assert.ok(pod?.kind === "workload");
      assert.deepEqual(pod.workload.applicationTunnel, expected);
    });
  }

  it("asks the listener that connections are handed to who may attach", () => {
    const listeners = [HBONE, { port: 15088, protocol: "TCP", allowedRoutes: { namespaces: { from: "All" } } }];
    const annotations = { "ambient.istio.io/waypoint-inbound-binding": "PROXY/15088" };
    const far = gateway("far", { namespace: "other", listeners });
    const labels = { [USE]: "far", [USE_NAMESPACE]: "other" };
    assert.equal(outcome(waypointOf({ labels, gateways: [far] })), "refused");
    const bound = { ...far, metadata: { ...far.metadata, annotations } };
    assert.equal(outcome(waypointOf({ labels, gateways: [bound] })), "bound");
    const proxy = [HBONE, { port: 1, protocol: "istio.io/PROXY", allowedRoutes: { namespaces: { from: "All" } } }];
    const without = { ...far, spec: { ...far.spec, listeners: proxy } };
    const meta = { ...far.metadata, annotations: { "ambient.istio.io/waypoint-inbound-binding": "PROXY" } };
    assert.equal(outcome(waypointOf({ labels, gateways: [{ ...without, metadata: meta }] })), "bound");
  });
});

describe("a canary waypoint", () => {
  const canary = gateway("canary", { ip: "10.9.0.2" });
  const both = [ready, canary];
  const cases: readonly (readonly [string, Partial<World>, readonly number[], RegExp | undefined])[] = [
    [
      "gets its share",
      { labels: { [USE]: "wp", [CANARY]: "canary" }, annotations: { [WEIGHT]: "30" } },
      [70, 30],
      undefined,
    ],
    ["gets nothing without a weight", { labels: { [USE]: "wp", [CANARY]: "canary" } }, [100, 0], undefined],
    ["none is none", { labels: { [USE]: "wp", [CANARY]: "none" } }, [], undefined],
    [
      "is inherited with the waypoint",
      { inherited: { [USE]: "wp", [CANARY]: "canary" }, inheritedAnnotations: { [WEIGHT]: "5" } },
      [95, 5],
      undefined,
    ],
    [
      "is not inherited beside an own waypoint",
      { labels: { [USE]: "wp" }, inherited: { [CANARY]: "canary" } },
      [],
      undefined,
    ],
    [
      "an own one goes before the namespace's",
      { labels: { [CANARY]: "canary" }, inherited: { [USE]: "wp", [CANARY]: "no" } },
      [100, 0],
      undefined,
    ],
    ["is not the primary", { labels: { [USE]: "wp", [CANARY]: "wp" } }, [], /primary waypoint already$/],
    [
      "needs a weight that is one",
      { labels: { [USE]: "wp", [CANARY]: "canary" }, annotations: { [WEIGHT]: "101" } },
      [],
      /weight "101"/,
    ],
    [
      "needs a whole number",
      { labels: { [USE]: "wp", [CANARY]: "canary" }, annotations: { [WEIGHT]: "1.5" } },
      [],
      /weight "1.5"/,
    ],
    ["must be ready", { labels: { [USE]: "wp", [CANARY]: "no" } }, [], /waypoint "app\/no" is not ready$/],
    [
      "must admit",
      {
        labels: { [USE]: "wp", [CANARY]: "far", "istio.io/use-waypoint-canary-namespace": "other" },
        gateways: [ready, gateway("far", { namespace: "other" })],
      },
      [],
      /not permitted/,
    ],
    [
      "must be for services",
      { labels: { [USE]: "wp", [CANARY]: "canary" }, gateways: [ready, gateway("canary", { for: "workload" })] },
      [],
      /traffic type "service"/,
    ],
  ];
  for (const [name, parts, weights, problem] of cases) {
    it(name, () => {
      const { resources, statuses } = convert(world({ gateways: both, ...parts }));
      const service = resources.find(({ kind }) => kind === "service");
      assert.ok(service?.kind === "service");
      assert.deepEqual(
        service.service.weightedWaypoints.map(({ weight }) => weight),
        weights,
      );
      assert.equal(outcome(service.service.waypoint), "bound");
      const condition = conditionOf(statuses, "Service");
      assert.equal(condition?.status, "True");
      if (problem === undefined) assert.doesNotMatch(condition?.message ?? "", /Canary/);
      else assert.match(condition?.message ?? "", new RegExp(`Canary waypoint not attached: .*${problem.source}`));
    });
  }
});

interface World {
  readonly labels?: Labels | undefined;
  readonly annotations?: Labels | undefined;
  readonly inherited?: Labels | undefined;
  readonly inheritedAnnotations?: Labels | undefined;
  readonly gateways?: readonly KubeGateway[] | undefined;
  readonly gatewayClasses?: KubeObjects["gatewayClasses"];
}

/** A namespace with a Service and a pod that are labelled alike. */
function world({
  labels = {},
  annotations = {},
  inherited = {},
  inheritedAnnotations = {},
  gateways,
  gatewayClasses,
}: World): KubeObjects {
  const metadata = { namespace: "app", labels, annotations };
  return {
    namespaces: [
      { metadata: { name: "app", labels: inherited, annotations: inheritedAnnotations } },
      { metadata: { name: "other" } },
    ],
    services: [{ metadata: { ...metadata, name: "svc" }, spec: { clusterIP: "10.96.0.1" } }],
    pods: [{ metadata: { ...metadata, name: "pod" }, status: { phase: "Running", podIP: "10.0.0.1" } }],
    authorizationPolicies: [],
    peerAuthentications: [],
    gateways: gateways ?? [ready],
    ...(gatewayClasses && { gatewayClasses }),
  };
}

function waypointOf(parts: World, settings: MeshSettings = DEFAULT_MESH_SETTINGS): GatewayAddress | undefined {
  const found = convert(world(parts), settings).resources.find(({ kind }) => kind === "service");
  assert.ok(found?.kind === "service");
  return found.service.waypoint;
}

function outcome(waypoint: GatewayAddress | undefined): Outcome {
  if (waypoint === undefined) return "without";
  const { destination } = waypoint;
  return destination.kind === "hostname" && destination.hostname.endsWith(".invalid") ? "refused" : "bound";
}

function conditionOf(statuses: ReturnType<typeof convert>["statuses"], kind: string): Condition | undefined {
  return statuses
    .find((status) => status.kind === kind)
    ?.conditions.find(({ type }) => type === "istio.io/WaypointBound");
}

function gateway(
  name: string,
  {
    namespace = "app",
    ip = "10.9.0.1",
    listeners = [HBONE],
    ...more
  }: { namespace?: string; ip?: string; listeners?: readonly KubeListener[]; for?: string },
): KubeGateway {
  const labels: Labels = more.for === undefined ? {} : { "istio.io/waypoint-for": more.for };
  return {
    metadata: { name, namespace, labels },
    spec: { gatewayClassName: "istio-waypoint", listeners },
    status: { addresses: [{ type: "IPAddress", value: ip }] },
  };
}

function selecting(matchLabels: Labels): KubeListener {
  return { ...HBONE, allowedRoutes: { namespaces: { from: "Selector", selector: { matchLabels } } } };
}
