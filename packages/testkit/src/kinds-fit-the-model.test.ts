import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ALL_KINDS,
  apiVersionOf,
  type Deployment,
  kindOf,
  type Namespace,
  type Node,
  type Pod,
  type Service,
} from "@tulle/store";
import type * as istio from "@tulle/store";
import type * as model from "@tulle/mesh/convert";

/** Checked by the compiler: what the store gives can be handed to the model as it is. */
type Fits<T extends U, U> = T;
export type Fitting = readonly [
  Fits<Namespace, model.KubeNamespace>,
  Fits<Node, model.KubeNode>,
  Fits<Pod, model.KubePod>,
  Fits<Service, model.KubeService>,
  Fits<istio.AuthorizationPolicy, model.KubePolicy>,
  Fits<istio.PeerAuthentication, model.KubePolicy>,
  Fits<istio.EndpointSlice, model.KubeEndpointSlice>,
  Fits<istio.ServiceEntry, model.KubeServiceEntry>,
  Fits<istio.WorkloadEntry, model.KubeWorkloadEntry>,
  Fits<istio.GatewayClass, model.KubeGatewayClass>,
  Fits<istio.Gateway, model.KubeGateway>,
];

test("each kind is found by what its objects say, in any version", () => {
  for (const kind of ALL_KINDS) assert.equal(kindOf({ apiVersion: apiVersionOf(kind), kind: kind.kind }), kind);
  const names = ALL_KINDS.map(({ group, kind }) => `${kind}.${group}`);
  assert.equal(new Set(names).size, names.length);
  assert.equal(kindOf({ apiVersion: "security.istio.io/v1beta1", kind: "AuthorizationPolicy" })?.version, "v1");
  assert.equal(
    kindOf({ apiVersion: "v1", kind: "Deployment" } satisfies Pick<Deployment, "apiVersion" | "kind">),
    undefined,
  );
});
