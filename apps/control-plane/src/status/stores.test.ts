import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { silentLog, systemClock } from "@tulle/base";
import type { Condition, MeshObjectKind, ObjectStatus } from "@tulle/mesh/convert";
import {
  AUTHORIZATION_POLICY,
  CUSTOM_RESOURCE_DEFINITION,
  type CustomResourceDefinition,
  type KubeObject,
  NAMESPACE,
  openStore,
  type ResourceKind,
  SERVICE,
  SERVICE_ENTRY,
  type ServiceEntry,
  type Store,
  type Watch,
} from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
import { startKubeApiServer } from "@tulle/testkit";
import { parseAllDocuments } from "yaml";
import { VipController } from "../vip/vip-controller.ts";
import { conditionsOf } from "./conditions.ts";
import { StatusWriter } from "./status-writer.ts";

/** What the control plane writes back, in stores as they are: Istio's schemas on a real API server, and a directory. */

const CRDS = new URL("../../../../crds/istio/", import.meta.url);
const DEADLINE_MS = 10_000;
const NAMESPACE_NAME = "shop";

interface Place extends AsyncDisposable {
  readonly store: Store;
}

describe("in a directory,", () => suite(openDirectory));
describe("on an API server,", () => suite(openApiServer));

function suite(open: () => Promise<Place>): void {
  let place: Place;
  let store: Store;
  let writer: StatusWriter;
  const watches = new Map<MeshObjectKind, Watch<KubeObject>>();

  before(async () => {
    place = await open();
    store = place.store;
    await store.create(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE_NAME } });
    const kinds = { AuthorizationPolicy: AUTHORIZATION_POLICY, Service: SERVICE, ServiceEntry: SERVICE_ENTRY };
    for (const [name, kind] of Object.entries(kinds) as [MeshObjectKind, ResourceKind][]) {
      const watch = store.watch(kind, { put: () => undefined, gone: () => undefined });
      await watch.whenSynced(AbortSignal.timeout(DEADLINE_MS));
      watches.set(name, watch);
    }
    const lookup = (kind: MeshObjectKind, ref: { namespace?: string; name: string }) => watches.get(kind)?.get(ref);
    writer = new StatusWriter({ store, lookup, log: silentLog, clock: systemClock });
  });

  after(async () => {
    await writer.close();
    for (const watch of watches.values()) watch.close();
    await place[Symbol.asyncDispose]();
  });

  const typesOf = async (kind: ResourceKind, name: string) => {
    const object = await store.get(kind, { namespace: NAMESPACE_NAME, name });
    return conditionsOf(object ?? assert.fail()).map(({ type, reason }) => `${type} ${reason}`);
  };
  const seen = (kind: MeshObjectKind, name: string) => watches.get(kind)?.get({ namespace: NAMESPACE_NAME, name });
  const done = () => until(() => writer.counts.pending === 0, "the writer to be done");

  it("a policy's condition is there soon, and once", async () => {
    const written = await store.create(AUTHORIZATION_POLICY, objectOf(AUTHORIZATION_POLICY, "p", { spec: {} }));
    await until(() => seen("AuthorizationPolicy", "p") !== undefined, "the policy");
    const begin = performance.now();
    const status = statusFor("AuthorizationPolicy", "p", [ACCEPTED], written.metadata.generation);
    writer.write([status]);
    await until(() => conditionsOf(seen("AuthorizationPolicy", "p") ?? written).length === 1, "the condition");
    const took = performance.now() - begin;
    assert.ok(took < 5_000, `${took} ms`);
    const [condition] = conditionsOf(seen("AuthorizationPolicy", "p") ?? assert.fail());
    const { lastTransitionTime, observedGeneration, ...rest } = condition ?? assert.fail();
    assert.deepEqual(rest, ACCEPTED);
    assert.ok(Math.abs(Date.parse(lastTransitionTime ?? "") - Date.now()) < 60_000);
    assert.equal(observedGeneration, String(written.metadata.generation));
    writer.write([status]);
    await done();
    assert.deepEqual([writer.counts.written, writer.counts.skipped, writer.counts.failed], [1, 1, 0]);
  });

  for (const kind of [SERVICE, SERVICE_ENTRY] as readonly ResourceKind[]) {
    const name = kind.kind as "Service" | "ServiceEntry";
    it(`a ${name}'s conditions come and go, and others' stay`, async () => {
      const spec = kind === SERVICE ? { ports: [{ name: "tcp", port: 80 }] } : { hosts: ["x.test"] };
      await store.create(kind, objectOf(kind, "c", { spec }));
      const foreign = {
        type: "example.org/Other",
        status: "True",
        reason: "Theirs",
        message: "",
        lastTransitionTime: NOW,
      };
      await store.apply(kind, objectOf(kind, "c", { status: { conditions: [foreign] } }), {
        manager: "somebody",
        subresource: "status",
      });
      await until(() => conditionsOf(seen(name, "c") ?? objectOf(kind, "c", {})).length === 1, "the object");
      writer.write([statusFor(name, "c", [BOUND, MISSING])]);
      await done();
      const theirs = "example.org/Other Theirs";
      assert.deepEqual(await typesOf(kind, "c"), [theirs, "istio.io/WaypointBound Yes", "istio.io/WaypointMissing No"]);
      writer.write([statusFor(name, "c", [{ ...BOUND, reason: "Still" }])]);
      await done();
      assert.deepEqual(await typesOf(kind, "c"), [theirs, "istio.io/WaypointBound Still"]);
      writer.write([statusFor(name, "c", [])]);
      await done();
      assert.deepEqual(await typesOf(kind, "c"), [theirs]);
      assert.equal(writer.counts.failed, 0);
    });
  }

  it("addresses are given, beside conditions, and go when they are not wanted any more", async () => {
    await using controller = new VipController({ store, log: silentLog, clock: systemClock });
    const watch = store.watch(SERVICE_ENTRY, {
      put: (entry) => controller.put(entry),
      gone: ({ metadata }) => controller.remove(metadata),
    });
    try {
      await watch.whenSynced(AbortSignal.timeout(DEADLINE_MS));
      controller.start();
      const spec = { hosts: ["db.test"], resolution: "DNS", ports: [{ number: 80, name: "tcp", protocol: "TCP" }] };
      await store.create(SERVICE_ENTRY, objectOf(SERVICE_ENTRY, "db", { spec }));
      const addresses = () => {
        const entry = watch.get({ namespace: NAMESPACE_NAME, name: "db" });
        return (entry?.status?.addresses ?? []).map(({ value, host }) => `${value} ${host}`);
      };
      await until(() => addresses().length === 2, "addresses");
      assert.deepEqual(addresses(), ["240.240.0.1 db.test", "2001:2::1 db.test"]);
      await until(() => seen("ServiceEntry", "db") !== undefined, "the entry");
      writer.write([statusFor("ServiceEntry", "db", [BOUND])]);
      await done();
      assert.deepEqual(await typesOf(SERVICE_ENTRY, "db"), ["istio.io/WaypointBound Yes"]);
      assert.equal(addresses().length, 2);
      const body = { spec: { addresses: ["10.9.9.9"] } };
      await store.patch(SERVICE_ENTRY, { namespace: NAMESPACE_NAME, name: "db" }, { type: "merge", body });
      await until(() => addresses().length === 0, "no addresses");
      assert.deepEqual(await typesOf(SERVICE_ENTRY, "db"), ["istio.io/WaypointBound Yes"]);
    } finally {
      watch.close();
    }
  });

  it("an address that another control plane has written in between is not overwritten", async () => {
    await using controller = new VipController({ store, log: silentLog, clock: systemClock });
    const spec = { hosts: ["late.test"], resolution: "DNS", ports: [{ number: 80, name: "tcp", protocol: "TCP" }] };
    const ref = { namespace: NAMESPACE_NAME, name: "late" };
    const old = (await store.create(SERVICE_ENTRY, objectOf(SERVICE_ENTRY, "late", { spec }))) as ServiceEntry;
    const status = { addresses: [{ value: "240.240.7.7", host: "late.test" }] };
    await store.patch(SERVICE_ENTRY, ref, { type: "merge", body: { status } }, { subresource: "status" });
    controller.put(old);
    controller.start();
    await pause(20);
    const now = (await store.get(SERVICE_ENTRY, ref)) ?? assert.fail();
    assert.deepEqual(now.status?.addresses, status.addresses);
    controller.put(now);
    await until(async () => ((await store.get(SERVICE_ENTRY, ref))?.status?.addresses?.length ?? 0) === 2, "IPv6");
    assert.equal((await store.get(SERVICE_ENTRY, ref))?.status?.addresses?.[0]?.value, "240.240.7.7");
  });
}

const NOW = "2026-01-01T00:00:00Z";
const ACCEPTED: Condition = { type: "ZtunnelAccepted", status: "True", reason: "Accepted", message: "attached" };
const BOUND: Condition = { type: "istio.io/WaypointBound", status: "True", reason: "Yes", message: "bound" };
const MISSING: Condition = { type: "istio.io/WaypointMissing", status: "True", reason: "No", message: "missing" };

function statusFor(
  kind: MeshObjectKind,
  name: string,
  conditions: readonly Condition[],
  generation?: number,
): ObjectStatus {
  const manager = kind === "AuthorizationPolicy" ? "istio-ambient-ztunnel-policy" : "istio-ambient-service";
  return { kind, namespace: NAMESPACE_NAME, name, generation, manager, conditions };
}

function objectOf(kind: ResourceKind, name: string, rest: Readonly<Record<string, unknown>>): KubeObject {
  const apiVersion = kind.group === "" ? kind.version : `${kind.group}/${kind.version}`;
  return { apiVersion, kind: kind.kind, metadata: { namespace: NAMESPACE_NAME, name }, ...rest };
}

async function openDirectory(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "tulle-status-"));
  const store = await DirectoryStore.open({ directory: undefined, state: join(folder, "state"), component: "test" });
  return {
    store,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function openApiServer(): Promise<Place> {
  const server = await startKubeApiServer();
  const store = await openStore({ component: "test", env: { KUBECONFIG: server.kubeconfig } });
  for (const file of ["authorizationpolicies", "serviceentries"]) {
    await store.create(CUSTOM_RESOURCE_DEFINITION, readCrd(file));
  }
  const established = async (kind: ResourceKind) => (await store.list(kind).catch(() => undefined)) !== undefined;
  await until(() => established(AUTHORIZATION_POLICY), "AuthorizationPolicies");
  await until(() => established(SERVICE_ENTRY), "ServiceEntries");
  return {
    store,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

function readCrd(plural: string): CustomResourceDefinition {
  const text = readFileSync(new URL("customresourcedefinitions.gen.yaml", CRDS), "utf8");
  const found = parseAllDocuments(text)
    .map((document) => document.toJS() as CustomResourceDefinition | null)
    .find((one) => one?.metadata.name.startsWith(`${plural}.`));
  return found ?? assert.fail(plural);
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(`waited in vain for ${what}`);
    await pause(5);
  }
}
