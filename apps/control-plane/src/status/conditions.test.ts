import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Condition, ObjectStatus } from "@tulle/mesh/convert";
import type { KubeObject } from "@tulle/store";
import { statusPatch, type WrittenCondition } from "./conditions.ts";

const NOW = "2026-01-02T00:00:00.000Z";
const BEFORE = "2026-01-01T00:00:00.000Z";
const ACCEPTED: Condition = { type: "ZtunnelAccepted", status: "True", reason: "Accepted", message: "attached" };
const BOUND: Condition = { type: "istio.io/WaypointBound", status: "True", reason: "WaypointAccepted", message: "yes" };
const FOREIGN: WrittenCondition = { type: "Reconciled", status: "True", lastTransitionTime: BEFORE };

describe("a status to apply", () => {
  it("holds the writer's conditions, the generation as text, and when it began to be so", () => {
    assert.deepEqual(statusPatch(policy([ACCEPTED]), object("AuthorizationPolicy"), NOW), {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { namespace: "demo", name: "p" },
      status: { conditions: [{ ...ACCEPTED, observedGeneration: "3", lastTransitionTime: NOW }] },
    });
  });

  it("is of the version that is stored, and has a generation only where upstream has one", () => {
    const kinds: readonly (readonly [ObjectStatus["kind"], ObjectStatus["manager"], string, boolean])[] = [
      ["AuthorizationPolicy", "istio-ambient-ztunnel-policy", "security.istio.io/v1", true],
      ["PeerAuthentication", "istio-ambient-ztunnel-policy", "security.istio.io/v1", true],
      ["ServiceEntry", "istio-ambient-service", "networking.istio.io/v1", false],
      ["WorkloadEntry", "istio-ambient-workloadentry", "networking.istio.io/v1", false],
      ["Service", "istio-ambient-service", "v1", false],
      ["Pod", "tulle-ambient-pod", "v1", false],
    ];
    for (const [kind, manager, apiVersion, generation] of kinds) {
      const patch = statusPatch({ ...policy([BOUND]), kind, manager }, object(kind), NOW);
      assert.equal(patch?.apiVersion, apiVersion);
      assert.equal(patch.kind, kind);
      assert.equal(written(patch)[0]?.observedGeneration, generation ? "3" : undefined);
    }
    assert.equal(statusPatch({ ...policy([BOUND]), kind: "Node" }, object("Node"), NOW), undefined);
  });

  it("keeps the time while the status is the same, and moves it with the status", () => {
    const present = object("AuthorizationPolicy", [
      { ...ACCEPTED, observedGeneration: "2", lastTransitionTime: BEFORE },
    ]);
    const same = statusPatch(policy([{ ...ACCEPTED, message: "other" }]), present, NOW);
    assert.equal(written(same)[0]?.lastTransitionTime, BEFORE);
    const other = statusPatch(policy([{ ...ACCEPTED, status: "False" }]), present, NOW);
    assert.equal(written(other)[0]?.lastTransitionTime, NOW);
  });

  it("is nothing when the object says it already", () => {
    const said = { ...ACCEPTED, lastTransitionTime: BEFORE };
    for (const observedGeneration of ["3", 3]) {
      const present = object("AuthorizationPolicy", [FOREIGN, { ...said, observedGeneration }]);
      assert.equal(statusPatch(policy([ACCEPTED]), present, NOW), undefined);
    }
    assert.equal(statusPatch(policy([]), object("AuthorizationPolicy", [FOREIGN]), NOW), undefined);
    assert.equal(statusPatch(policy([]), object("AuthorizationPolicy"), NOW), undefined);
    const others: readonly WrittenCondition[] = [
      { ...said, observedGeneration: "2" },
      { ...said, observedGeneration: "3", reason: "x" },
      { ...said, observedGeneration: "3", message: "x" },
      { ...said, observedGeneration: "3", status: "False" },
      { ...said, observedGeneration: "3", type: "WaypointAccepted" },
    ];
    for (const one of others) {
      assert.notEqual(statusPatch(policy([ACCEPTED]), object("AuthorizationPolicy", [one]), NOW), undefined);
    }
  });

  it("brings others' conditions along where the list is one field, and not where each has its owner", () => {
    const present = [FOREIGN, { type: "istio.io/WaypointMissing", status: "True" }];
    const bound: ObjectStatus = { ...policy([BOUND]), manager: "istio-ambient-service", kind: "ServiceEntry" };
    const typesOf = (patch: KubeObject | undefined) => written(patch).map(({ type }) => type);
    const whole = statusPatch(bound, object("ServiceEntry", present), NOW);
    assert.deepEqual(typesOf(whole), ["Reconciled", "istio.io/WaypointBound"]);
    const single = statusPatch({ ...bound, kind: "Service" }, object("Service", present), NOW);
    assert.deepEqual(typesOf(single), ["istio.io/WaypointBound"]);
  });

  it("without conditions takes away what the writer wrote", () => {
    const none: ObjectStatus = { ...policy([]), manager: "istio-ambient-service", kind: "ServiceEntry" };
    const gone = statusPatch(none, object("ServiceEntry", [{ ...BOUND }]), NOW);
    assert.deepEqual(gone?.["status"], {});
    const kept = statusPatch(none, object("ServiceEntry", [FOREIGN, { ...BOUND }]), NOW);
    assert.deepEqual(kept?.["status"], { conditions: [FOREIGN] });
  });

  it("is not misled by a status of another shape", () => {
    for (const status of [null, "x", { conditions: "x" }, { conditions: [null, 1, { type: 1 }] }]) {
      const present: KubeObject = { ...object("AuthorizationPolicy"), status };
      assert.deepEqual(written(statusPatch(policy([ACCEPTED]), present, NOW)).length, 1);
    }
  });
});

function policy(conditions: readonly Condition[]): ObjectStatus {
  const manager = "istio-ambient-ztunnel-policy";
  return { kind: "AuthorizationPolicy", namespace: "demo", name: "p", generation: 3, manager, conditions };
}

function object(kind: string, conditions?: readonly WrittenCondition[]): KubeObject {
  const metadata = { name: "p", namespace: "demo", generation: 3 };
  return { apiVersion: "v1", kind, metadata, ...(conditions === undefined ? {} : { status: { conditions } }) };
}

function written(patch: KubeObject | undefined): readonly WrittenCondition[] {
  const status = patch?.["status"] as { readonly conditions?: readonly WrittenCondition[] } | undefined;
  return status?.conditions ?? [];
}
