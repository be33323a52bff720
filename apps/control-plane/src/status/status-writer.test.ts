import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { type Log, silentLog } from "@tulle/base";
import type { Condition, ObjectStatus } from "@tulle/mesh/convert";
import { type ApplyOptions, type KubeObject, type ResourceKind, StoreError, type StoreErrorCode } from "@tulle/store";
import { FakeTime } from "@tulle/testkit";
import { conditionsOf } from "./conditions.ts";
import { StatusWriter, type StatusWriterOptions } from "./status-writer.ts";

describe("the status writer", () => {
  it("writes what became of an object, with its manager, into the status", async (t) => {
    const { writer, store, time } = setUp(t);
    writer.write([status("a")]);
    await time.settle();
    assert.deepEqual(store.writes, ["AuthorizationPolicy demo/a istio-ambient-ztunnel-policy status"]);
    assert.deepEqual(messages(store, "a"), ["attached"]);
    assert.deepEqual(writer.counts, { pending: 0, written: 1, skipped: 0, failed: 0, dropped: 0 });
  });

  it("of several changes writes the newest, one at a time", async (t) => {
    const { writer, store, time } = setUp(t);
    const first = store.hold();
    writer.write([status("a", "1")]);
    await time.settle();
    for (const text of ["2", "3", "4"]) writer.write([status("a", text)]);
    await time.settle();
    assert.equal(store.writes.length, 1);
    first.resolve();
    await time.settle();
    assert.deepEqual([store.writes.length, messages(store, "a")], [2, ["4"]]);
  });

  it("writes nothing that the object says already, and nothing to one that is gone", async (t) => {
    const { writer, store, time } = setUp(t);
    writer.write([status("a")]);
    await time.settle();
    writer.write([status("a"), status("gone")]);
    await time.settle();
    assert.equal(store.writes.length, 1);
    assert.equal(writer.counts.skipped, 2);
  });

  it("knows what it wrote before the watch does", async (t) => {
    const { writer, store, time } = setUp(t);
    writer.write([status("a", "1")]);
    await time.settle();
    store.freeze();
    writer.write([status("a", "2")]);
    await time.settle();
    writer.write([status("a", "1")]);
    await time.settle();
    assert.deepEqual([store.writes.length, messages(store, "a")], [3, ["1"]]);
    // A watch that never catches up is believed in the end: its state is judged, not the remembered one.
    await time.advance(20_000);
    writer.write([status("a", "2")]);
    await time.settle();
    assert.deepEqual(messages(store, "a"), ["2"]);
  });

  it("says first what a user has applied", async (t) => {
    const { writer, store, time } = setUp(t, { writesPerSecond: 10 });
    const services = Array.from({ length: 50 }, (_, index) => status(`s${index}`, "x", "Service"));
    for (const { name } of services) store.add("Service", name);
    writer.write(services);
    await time.settle();
    assert.equal(store.writes.length, 10);
    writer.write([status("a")]);
    await time.advance(100);
    assert.match(store.writes[10] ?? "", /^AuthorizationPolicy/);
    await time.advance(4_000);
    assert.equal(store.writes.length, 51);
  });

  it("tries a conflict again, at most five times", async (t) => {
    const { writer, store, time } = setUp(t);
    store.fail(4, "CONFLICT");
    writer.write([status("a")]);
    await time.advance(10_000);
    assert.deepEqual([store.writes.length, messages(store, "a")], [5, ["attached"]]);
    store.fail(5, "CONFLICT");
    writer.write([status("a", "x")]);
    await time.advance(60_000);
    assert.equal(store.writes.length, 10);
    assert.equal(writer.counts.failed, 1);
  });

  it("does not put what failed in the place of something newer", async (t) => {
    for (const code of ["CONFLICT", "UNAVAILABLE"] as const) {
      const { writer, store, time } = setUp(t);
      const first = store.hold();
      store.fail(1, code);
      writer.write([status("a", "old")]);
      await time.settle();
      writer.write([status("a", "new")]);
      first.resolve();
      await time.advance(10_000);
      assert.deepEqual([messages(store, "a"), store.writes.length], [["new"], 2]);
    }
  });

  it("does not try again what the API refuses, and tells each reason once", async (t) => {
    for (const code of ["INVALID", "FORBIDDEN"] as const) {
      const { writer, store, time, warnings } = setUp(t);
      store.add("AuthorizationPolicy", "b");
      store.fail(2, code);
      writer.write([status("a"), status("b")]);
      await time.advance(60_000);
      assert.deepEqual([store.writes.length, writer.counts.failed], [2, 2]);
      assert.deepEqual(warnings, ["a status was not written"]);
    }
  });

  it("takes an object that went for done", async (t) => {
    const { writer, store, time, warnings } = setUp(t);
    store.fail(1, "NOT_FOUND");
    writer.write([status("a")]);
    await time.advance(60_000);
    assert.deepEqual([store.writes.length, writer.counts.skipped, warnings], [1, 1, []]);
  });

  it("waits for an API that does not answer, and loses nothing", async (t) => {
    const { writer, store, time, warnings } = setUp(t);
    store.add("AuthorizationPolicy", "b");
    store.fail(12, "UNAVAILABLE");
    writer.write([status("a"), status("b")]);
    await time.settle();
    writer.write([status("a", "newer")]);
    for (let i = 0; i < 40; i++) await time.advance(5_000);
    assert.deepEqual([messages(store, "a"), messages(store, "b")], [["newer"], ["attached"]]);
    assert.ok(store.writes.length <= 14, String(store.writes.length));
    assert.ok(warnings.every((text) => text === "statuses wait for the API"));
  });

  it("has room for so many and no more, and says so once", async (t) => {
    const { writer, store, time, warnings } = setUp(t, { maxPending: 2 });
    const first = store.hold();
    store.add("AuthorizationPolicy", "b");
    for (const name of ["a", "b", "c", "d"]) store.add("AuthorizationPolicy", name);
    writer.write(["a", "b", "c", "d"].map((name) => status(name)));
    // What waits already may still change.
    writer.write([status("b", "newer")]);
    first.resolve();
    await time.advance(1_000);
    assert.deepEqual([messages(store, "b"), messages(store, "c")], [["newer"], []]);
    assert.equal(writer.counts.dropped, 2);
    assert.equal(warnings.length, 1);
  });

  it("looks through very many that are said already without stopping the process", async (t) => {
    const { writer, store, time } = setUp(t);
    const names = Array.from({ length: 2_000 }, (_, index) => `p${index}`);
    for (const name of names) {
      store.add("AuthorizationPolicy", name, [{ ...condition("attached"), observedGeneration: "1" }]);
    }
    writer.write(names.map((name) => status(name)));
    await time.settle();
    assert.ok(writer.counts.skipped <= 1_000, String(writer.counts.skipped));
    for (let i = 0; i < 10; i++) await time.advance(1);
    assert.deepEqual([writer.counts.skipped, store.writes], [2_000, []]);
  });

  it("ends what it has begun and begins nothing when closed", async (t) => {
    const { writer, store, time } = setUp(t);
    const first = store.hold();
    writer.write([status("a", "1")]);
    await time.settle();
    writer.write([status("a", "2")]);
    const closed = writer.close();
    first.resolve();
    await closed;
    writer.write([status("a", "3")]);
    await time.advance(1_000);
    assert.deepEqual([store.writes.length, time.sleeping], [1, 0]);
  });
});

function setUp(t: TestContext, options: Partial<StatusWriterOptions> = {}) {
  const time = new FakeTime();
  const store = new StatusStore();
  store.add("AuthorizationPolicy", "a");
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (message) => void warnings.push(message) };
  const writer = new StatusWriter({
    store,
    lookup: (kind, { name }) => store.seen(kind, name),
    log,
    clock: time.clock,
    sleep: time.sleep,
    random: () => 0.5,
    ...options,
  });
  t.after(() => writer.close());
  return { writer, store, time, warnings };
}

function condition(message: string): Condition {
  return { type: "ZtunnelAccepted", status: "True", reason: "Accepted", message };
}

function status(name: string, message = "attached", kind: ObjectStatus["kind"] = "AuthorizationPolicy"): ObjectStatus {
  const manager = "istio-ambient-ztunnel-policy";
  return { kind, namespace: "demo", name, generation: 1, manager, conditions: [condition(message)] };
}

function messages(store: StatusStore, name: string) {
  const object = store.find("AuthorizationPolicy", name);
  return object === undefined ? [] : conditionsOf(object).map(({ message }) => message);
}

/** Keeps statuses as they are applied, tells what was asked of it, and fails as it is told. */
class StatusStore {
  readonly writes: string[] = [];
  readonly #objects = new Map<string, KubeObject>();
  #seen: Map<string, KubeObject> | undefined;
  #version = 0;
  #failures: StoreErrorCode[] = [];
  #held: Promise<void> | undefined;

  add(kind: string, name: string, conditions?: readonly unknown[]): void {
    this.#set({ apiVersion: "v1", kind, metadata: { name, namespace: "demo", uid: name }, status: { conditions } });
  }

  find(kind: string, name: string): KubeObject | undefined {
    return this.#objects.get(`${kind} ${name}`);
  }

  /** As a watch has it. */
  seen(kind: string, name: string): KubeObject | undefined {
    return (this.#seen ?? this.#objects).get(`${kind} ${name}`);
  }

  /** The watch learns nothing any more. */
  freeze(): void {
    this.#seen = new Map(this.#objects);
  }

  fail(times: number, code: StoreErrorCode): void {
    this.#failures = Array.from({ length: times }, () => code);
  }

  /** The next write waits. */
  hold(): PromiseWithResolvers<void> {
    const held = Promise.withResolvers<void>();
    this.#held = held.promise;
    return held;
  }

  async apply<T extends KubeObject>(_kind: ResourceKind<T>, object: KubeObject, options: ApplyOptions): Promise<T> {
    const { kind, metadata } = object;
    this.writes.push(`${kind} ${metadata.namespace}/${metadata.name} ${options.manager} ${options.subresource}`);
    const held = this.#held;
    this.#held = undefined;
    await held;
    const failure = this.#failures.shift();
    if (failure !== undefined) throw new StoreError(failure, "as the test wants it");
    const known = this.find(kind, metadata.name);
    if (known === undefined) throw new StoreError("NOT_FOUND", "not there");
    return this.#set({ ...known, status: object["status"] }) as T;
  }

  #set(object: KubeObject): KubeObject {
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#objects.set(`${object.kind} ${object.metadata.name}`, stored);
    return stored;
  }
}
