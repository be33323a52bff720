import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_MESH_SETTINGS, type MeshObjectKind } from "./context.ts";
import type { KubeObjectLike } from "./kubernetes.ts";
import { MeshIndex } from "./mesh-index.ts";

const GATEWAY = "gateway.networking.k8s.io";
const toService = { group: "", kind: "Service", name: "shop" };
const toEntry = { group: "networking.istio.io", kind: "ServiceEntry", name: "books" };
const toGateway = { group: GATEWAY, kind: "Gateway", name: "wp" };
const toClass = { group: GATEWAY, kind: "GatewayClass", name: "istio-waypoint" };

describe("a policy with targets says which waypoint enforces it", () => {
  const cases: readonly (readonly [
    what: string,
    targets: readonly unknown[],
    objects: readonly (readonly [MeshObjectKind, KubeObjectLike])[],
    condition: string,
    namespace?: string,
  ])[] = [
    [
      "a Service that is bound to a waypoint",
      [toService],
      [service({ "istio.io/use-waypoint": "wp" }), gateway("10.0.0.9")],
      "True Accepted: bound to a/wp",
    ],
    [
      "a Service by its namespace's waypoint",
      [toService],
      [service(), gateway("10.0.0.9"), namespaceObject({ "istio.io/use-waypoint": "wp" })],
      "True Accepted: bound to a/wp",
    ],
    [
      "a Service without waypoint",
      [toService],
      [service()],
      "False AncestorNotBound: the Service a/shop has no waypoint: nothing enforces this policy",
    ],
    [
      "a Service whose waypoint is not ready",
      [toService],
      [service({ "istio.io/use-waypoint": "wp" })],
      'False AncestorNotBound: the Service a/shop is not bound (waypoint "a/wp" is not ready): nothing enforces this policy',
    ],
    [
      "a Service that is not there",
      [toService],
      [],
      "False TargetNotFound: there is no Service a/shop: nothing enforces this policy",
    ],
    [
      "a ServiceEntry that is bound",
      [toEntry],
      [entry({ "istio.io/use-waypoint": "wp" }), gateway("10.0.0.9")],
      "True Accepted: bound to a/wp",
    ],
    ["a Gateway", [toGateway], [gateway("10.0.0.9")], "True Accepted: bound to a/wp"],
    [
      "a Gateway that has no address yet",
      [toGateway],
      [gateway()],
      "False AncestorNotBound: the Gateway a/wp is not ready: nothing enforces this policy",
    ],
    [
      "the class of waypoints, from the root namespace",
      [toClass],
      [],
      "True Accepted: bound to istio-waypoint",
      "istio-system",
    ],
    [
      "the class of waypoints, from elsewhere",
      [toClass],
      [],
      "False Invalid: a policy for a GatewayClass must be in the namespace istio-system: nothing enforces this policy",
    ],
    [
      "another class",
      [{ ...toClass, name: "istio" }],
      [["GatewayClass", { metadata: { name: "istio" }, spec: { controllerName: "istio.io/gateway-controller" } }]],
      "False Invalid: the GatewayClass istio is not one of waypoints: nothing enforces this policy",
      "istio-system",
    ],
    [
      "what nobody can be attached to",
      [{ group: "apps", kind: "Deployment", name: "shop" }],
      [],
      'False Invalid: a target of the kind Deployment in the group "apps" is not supported: nothing enforces this policy',
    ],
    [
      "a target that cannot be read",
      ["shop"],
      [],
      'False Invalid: a target of the kind ? in the group "" is not supported: nothing enforces this policy',
    ],
    [
      "several, all bound",
      [toGateway, toService],
      [service({ "istio.io/use-waypoint": "wp" }), gateway("10.0.0.9")],
      "True Accepted: bound to a/wp",
    ],
    [
      "several, some of them bound",
      [toGateway, toService],
      [service(), gateway("10.0.0.9")],
      "True PartiallyInvalid: Invalid targetRefs: Service.core:a/shop",
    ],
    [
      "several, none of them bound",
      [toGateway, toService],
      [],
      `False Invalid: Invalid targetRefs: Gateway.${GATEWAY}:a/wp, Service.core:a/shop`,
    ],
  ];
  for (const [what, targets, objects, condition, namespace = "a"] of cases) {
    it(what, () => {
      const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
      index.put("AuthorizationPolicy", policy({ targetRefs: targets }, namespace));
      for (const [kind, object] of objects) index.put(kind, object);
      assert.equal(said(index), condition);
    });
  }

  it("anew when what it is attached to changes, and only then", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    index.put("AuthorizationPolicy", policy({ targetRef: toService }));
    assert.match(said(index) ?? "", /TargetNotFound/);
    const put = ([kind, object]: readonly [MeshObjectKind, KubeObjectLike]) => {
      index.put(kind, object);
      return said(index);
    };
    assert.match(put(service()) ?? "", /has no waypoint/);
    assert.match(put(service({ "istio.io/use-waypoint": "wp" })) ?? "", /not ready/);
    assert.equal(put(gateway("10.0.0.9")), "True Accepted: bound to a/wp");
    assert.equal(put(["Gateway", { metadata: { name: "other", namespace: "a" } }]), undefined);
    assert.match(put(service({ "istio.io/use-waypoint": "none" })) ?? "", /has no waypoint/);
    index.remove("Service", "a", "shop");
    assert.match(said(index) ?? "", /TargetNotFound/);
  });

  it("and is no business of ztunnel", () => {
    const index = new MeshIndex(DEFAULT_MESH_SETTINGS);
    index.put("AuthorizationPolicy", policy({ targetRef: toService, action: "DENY", rules: [{}] }));
    assert.deepEqual(index.flush().puts, []);
    index.put("AuthorizationPolicy", policy({ action: "DENY", rules: [{}] }));
    assert.equal(said(index), "True Accepted: attached to ztunnel");
  });
});

/** What the flush says of the policy; undefined: nothing new. */
function said(index: MeshIndex): string | undefined {
  const status = index.flush().statuses.find(({ kind }) => kind === "AuthorizationPolicy");
  const [condition] = status?.conditions ?? [];
  return condition && `${condition.status} ${condition.reason}: ${condition.message}`;
}

function policy(spec: object, namespace = "a"): KubeObjectLike {
  return { metadata: { name: "p", namespace, generation: 1 }, spec };
}

function service(labels: Readonly<Record<string, string>> = {}): readonly [MeshObjectKind, KubeObjectLike] {
  return ["Service", { metadata: { name: "shop", namespace: "a", labels }, spec: { clusterIP: "10.0.0.1" } }];
}

function entry(labels: Readonly<Record<string, string>>): readonly [MeshObjectKind, KubeObjectLike] {
  const spec = { hosts: ["books.example.com"], resolution: "DNS", ports: [{ number: 80, name: "http" }] };
  return ["ServiceEntry", { metadata: { name: "books", namespace: "a", labels }, spec }];
}

function gateway(address?: string): readonly [MeshObjectKind, KubeObjectLike] {
  const status = address === undefined ? {} : { addresses: [{ type: "IPAddress", value: address }] };
  const spec = { gatewayClassName: "istio-waypoint" };
  return ["Gateway", { metadata: { name: "wp", namespace: "a" }, spec, status }];
}

function namespaceObject(labels: Readonly<Record<string, string>>): readonly [MeshObjectKind, KubeObjectLike] {
  return ["Namespace", { metadata: { name: "a", labels } }];
}
