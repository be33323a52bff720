import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { type Log, parseCidr, silentLog } from "@tulle/base";
import {
  type EventInput,
  type KubeObject,
  type ObjectRef,
  type Patch,
  type ResourceKind,
  type ServiceEntry,
  StoreError,
  type StoreErrorCode,
  type WriteOptions,
} from "@tulle/store";
import { FakeTime } from "@tulle/testkit";
import { VipController } from "./vip-controller.ts";

const MINUTE_MS = 60_000;

describe("addresses of ServiceEntries", () => {
  it("are one of each family for each host, in the entry's status", async (t) => {
    const { mesh } = setUp(t);
    mesh.put("a", { hosts: ["x.test", "y.test"], resolution: "DNS" });
    await mesh.start();
    assert.deepEqual(mesh.find("a")?.status?.addresses, [
      { value: "240.240.0.1", host: "x.test" },
      { value: "2001:2::1", host: "x.test" },
      { value: "240.240.0.2", host: "y.test" },
      { value: "2001:2::2", host: "y.test" },
    ]);
    assert.deepEqual(mesh.writes, ["patch demo/a status"]);
  });

  const skipped: readonly (readonly [name: string, spec: ServiceEntry["spec"], labels?: Record<string, string>])[] = [
    ["has addresses", { hosts: ["x.test"], resolution: "DNS", addresses: ["10.0.0.1"] }],
    ["has unreadable addresses", { hosts: ["x.test"], resolution: "DNS", addresses: ["ten"] }],
    ["is resolved by nobody", { hosts: ["x.test"], resolution: "NONE" }],
    ["does not say how it is resolved", { hosts: ["x.test"] }],
    ["opts out", { hosts: ["x.test"], resolution: "DNS" }, { "networking.istio.io/enable-autoallocate-ip": "False" }],
    ["is a wildcard", { hosts: ["*.test"], resolution: "DNS" }],
    ["has no host", { resolution: "DNS" }],
    ["has no spec", undefined],
  ];
  for (const [name, spec, labels] of skipped) {
    it(`are not given when it ${name}, and what stands there goes`, async (t) => {
      const { mesh } = setUp(t);
      mesh.put("new", spec, { labels: labels ?? {} });
      mesh.put("old", spec, { labels: labels ?? {}, addresses: ["240.240.0.1=x.test"] });
      await mesh.start();
      assert.deepEqual(mesh.writes, ["patch demo/old status"]);
      assert.equal("addresses" in (mesh.find("old")?.status ?? {}), false);
    });
  }

  it("are given to wildcards that are resolved dynamically, and once to a host that is there twice", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/24");
    mesh.put("a", { hosts: ["*.test", "*.test"], resolution: "DYNAMIC_DNS" });
    await mesh.start();
    assert.deepEqual(mesh.addresses("a"), ["10.0.0.1=*.test"]);
  });

  it("that stand in a status stay, and nobody else gets them", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/24");
    mesh.put("new", DNS, { created: 1 });
    mesh.put("old", DNS, { created: 2, addresses: ["10.0.0.1=x.test"] });
    mesh.put("older", DNS, { created: 3, addresses: ["192.168.0.9=x.test"] });
    await mesh.start();
    assert.deepEqual(mesh.addresses("new"), ["10.0.0.2=x.test"]);
    assert.deepEqual(mesh.addresses("old"), ["10.0.0.1=x.test"]);
    assert.deepEqual(mesh.addresses("older"), ["192.168.0.9=x.test"]);
    assert.equal(mesh.writes.length, 1);
  });

  it("follow the hosts of an entry", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/24");
    mesh.put("a", { hosts: ["x.test", "y.test"], resolution: "DNS" });
    await mesh.start();
    mesh.put("a", { hosts: ["z.test", "y.test"], resolution: "DNS" }, { keep: true });
    await mesh.settled();
    assert.deepEqual(mesh.addresses("a"), ["10.0.0.3=z.test", "10.0.0.2=y.test"]);
  });

  it("yield to a user's, also when they come first, and to a user's range", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/24");
    mesh.put("a", DNS, { created: 1 });
    mesh.put("b", { hosts: ["y.test"], resolution: "DNS" }, { created: 2 });
    await mesh.start();
    mesh.put("user", { hosts: ["u.test"], resolution: "DNS", addresses: ["10.0.0.1"] }, { created: 9 });
    await mesh.settled();
    assert.deepEqual([mesh.addresses("a"), mesh.addresses("b")], [["10.0.0.3=x.test"], ["10.0.0.2=y.test"]]);
    mesh.put("range", { hosts: ["u.test"], resolution: "DNS", addresses: ["10.0.0.0/28"] }, { created: 9 });
    await mesh.settled();
    assert.deepEqual([mesh.addresses("a"), mesh.addresses("b")], [["10.0.0.17=x.test"], ["10.0.0.16=y.test"]]);
  });

  it("that two have belong to the older, whichever is heard of first", async (t) => {
    for (const order of [
      ["young", "old"],
      ["old", "young"],
    ]) {
      const { mesh } = setUp(t, "10.0.0.0/24");
      for (const name of order) {
        mesh.put(name, DNS, { created: name === "old" ? 1 : 2, addresses: ["10.0.0.5=x.test"] });
      }
      await mesh.start();
      assert.deepEqual([mesh.addresses("old"), mesh.addresses("young")], [["10.0.0.5=x.test"], ["10.0.0.6=x.test"]]);
    }
  });

  it("of an entry that is gone rest before somebody else gets them", async (t) => {
    const { mesh, time } = setUp(t, "10.0.0.0/30");
    mesh.put("a", DNS);
    mesh.put("b", { hosts: ["y.test"], resolution: "DNS" });
    await mesh.start();
    mesh.remove("a");
    await time.advance(9 * MINUTE_MS);
    mesh.put("c", { hosts: ["z.test"], resolution: "DNS" });
    await mesh.settled();
    // There is no other: it is taken before its time rather than none.
    assert.deepEqual(mesh.addresses("c"), ["10.0.0.1=z.test"]);

    const larger = setUp(t, "10.0.0.0/29");
    for (const name of ["a", "b", "c", "d", "e"]) larger.mesh.put(name, { hosts: [`${name}.test`], resolution: "DNS" });
    await larger.mesh.start();
    larger.mesh.remove("b");
    larger.mesh.put("f", { hosts: ["f.test"], resolution: "DNS" });
    await larger.mesh.settled();
    assert.deepEqual(larger.mesh.addresses("f"), ["10.0.0.6=f.test"]);
    larger.mesh.remove("d");
    await larger.time.advance(5 * MINUTE_MS);
    larger.mesh.remove("a");
    await larger.time.advance(5 * MINUTE_MS);
    larger.mesh.put("g", { hosts: ["g.test"], resolution: "DNS" });
    await larger.mesh.settled();
    assert.deepEqual(larger.mesh.addresses("g"), ["10.0.0.2=g.test"]);
  });

  it("that are exhausted are told once, and given when there are some again", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/30");
    for (const name of ["a", "b", "c"]) mesh.put(name, { hosts: [`${name}.test`], resolution: "DNS" }, { created: 1 });
    await mesh.start();
    mesh.put("c", { hosts: ["c.test"], resolution: "DNS" }, { created: 1 });
    await mesh.settled();
    assert.deepEqual(mesh.addresses("c"), []);
    assert.deepEqual(mesh.events, ["Warning AddressesExhausted demo/c"]);
    mesh.remove("a");
    await mesh.settled();
    assert.deepEqual(mesh.addresses("c"), ["10.0.0.1=c.test"]);
  });
});

describe("writing addresses", () => {
  it("is tried again with the newer object when somebody else was faster", async (t) => {
    const { mesh, time } = setUp(t, "10.0.0.0/24");
    mesh.put("a", DNS);
    mesh.beforeWrite = () => {
      mesh.beforeWrite = undefined;
      mesh.touch("a", { conditions: [{ type: "x", status: "True" }] });
    };
    const started = mesh.start();
    await time.advance(1_000);
    await started;
    assert.equal(mesh.writes.length, 2);
    assert.deepEqual(mesh.find("a")?.status, {
      conditions: [{ type: "x", status: "True" }],
      addresses: [{ value: "10.0.0.1", host: "x.test" }],
    });
  });

  it("never goes to another object of the same name", async (t) => {
    const { mesh, time } = setUp(t, "10.0.0.0/24");
    mesh.put("a", DNS);
    mesh.beforeWrite = () => mesh.recreate("a");
    const started = mesh.start();
    for (let i = 0; i < 20; i++) await time.advance(1_000);
    await started;
    assert.equal(mesh.writes.length, 5);
    assert.deepEqual(mesh.addresses("a"), []);
  });

  it("waits for an API that does not answer, and keeps to what it decided", async (t) => {
    const { mesh, time } = setUp(t, "10.0.0.0/24");
    mesh.put("a", DNS);
    mesh.put("b", { hosts: ["y.test"], resolution: "DNS" });
    mesh.fail(8, "UNAVAILABLE");
    const started = mesh.start();
    for (let i = 0; i < 20; i++) await time.advance(15_000);
    await started;
    assert.deepEqual([mesh.addresses("a"), mesh.addresses("b")], [["10.0.0.1=x.test"], ["10.0.0.2=y.test"]]);
    assert.equal(mesh.writes.length, 10);
  });

  it("is given up at once for what is refused, and does not keep others from theirs", async (t) => {
    for (const code of ["FORBIDDEN", "INVALID", "NOT_FOUND"] as const) {
      const { mesh } = setUp(t, "10.0.0.0/24");
      mesh.put("a", DNS);
      mesh.put("b", { hosts: ["y.test"], resolution: "DNS" });
      mesh.fail(1, code);
      await mesh.start();
      assert.deepEqual([mesh.addresses("a"), mesh.addresses("b")], [[], ["10.0.0.2=y.test"]]);
      assert.equal(mesh.writes.length, 2);
    }
  });

  it("believes what it wrote until the watch says so too", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/24");
    mesh.put("a", DNS);
    const before = mesh.find("a") ?? assert.fail();
    await mesh.start();
    mesh.tell(before);
    await mesh.settled();
    assert.equal(mesh.writes.length, 1);
  });

  it("does nothing before the whole state is known", async (t) => {
    const { mesh, time } = setUp(t);
    mesh.put("a", DNS);
    await time.advance(60_000);
    assert.deepEqual(mesh.writes, []);
  });
});

describe("allocation after a restart", () => {
  it("changes nothing, whatever happened before", async (t) => {
    const { mesh } = setUp(t, "10.0.0.0/26");
    for (let i = 0; i < 20; i++) mesh.put(`e${i}`, { hosts: [`h${i}.test`], resolution: "DNS" });
    await mesh.start();
    for (let i = 0; i < 20; i += 3) mesh.remove(`e${i}`);
    for (let i = 30; i < 35; i++) mesh.put(`e${i}`, { hosts: [`h${i}.test`], resolution: "DNS" });
    await mesh.settled();
    const all = mesh.all();
    const values = all.flatMap(({ status }) => status?.addresses ?? []).map(({ value }) => value);
    assert.equal(new Set(values).size, all.length);
    const again = setUp(t, "10.0.0.0/26");
    for (const object of all.toReversed()) again.mesh.tell(object);
    await again.mesh.start();
    assert.deepEqual(again.mesh.writes, []);
    again.mesh.put("late", { hosts: ["late.test"], resolution: "DNS" });
    await again.mesh.settled();
    assert.deepEqual(again.mesh.addresses("late"), ["10.0.0.26=late.test"]);
  });
});

const DNS: ServiceEntry["spec"] = { hosts: ["x.test"], resolution: "DNS" };

function setUp(t: TestContext, ipv4?: string) {
  const time = new FakeTime();
  const log: Log = silentLog;
  const mesh = new EntryStore();
  const only = ipv4 === undefined ? {} : { ranges: { ipv4: parseCidr(ipv4), ipv6: undefined } };
  const controller = new VipController({
    store: mesh,
    log,
    clock: time.clock,
    sleep: time.sleep,
    random: () => 0.5,
    ...only,
  });
  mesh.controller = controller;
  t.after(() => controller.close());
  return { mesh, time };
}

interface PutOptions {
  readonly created?: number;
  readonly labels?: Record<string, string>;
  /** `value=host` */
  readonly addresses?: readonly string[];
  /** The status that is there. */
  readonly keep?: boolean;
}

/** ServiceEntries, with a watch that tells at once and JSON patches as the API does them. */
class EntryStore {
  controller: VipController | undefined;
  beforeWrite: (() => void) | undefined;
  readonly writes: string[] = [];
  readonly events: string[] = [];
  readonly #objects = new Map<string, ServiceEntry>();
  #failures: StoreErrorCode[] = [];
  #version = 0;

  put(name: string, spec: ServiceEntry["spec"], { created = 0, labels = {}, addresses, keep }: PutOptions = {}): void {
    const creationTimestamp = new Date(Date.UTC(2026, 0, 1) + created * 1000).toISOString();
    const metadata = { name, namespace: "demo", uid: name, labels, creationTimestamp };
    const list = addresses?.map((text) => {
      const [value = "", host = ""] = text.split("=");
      return { value, host };
    });
    const status = keep ? this.find(name)?.status : list && { addresses: list };
    const object = { apiVersion: "networking.istio.io/v1", kind: "ServiceEntry", metadata };
    this.#set({ ...object, ...(spec && { spec }), ...(status && { status }) });
  }

  touch(name: string, status: ServiceEntry["status"]): void {
    const known = this.find(name) ?? assert.fail();
    this.#set({ ...known, ...(status && { status }) });
  }

  /** Another object takes the name; the watch has not told it. */
  recreate(name: string): void {
    const known = this.find(name) ?? assert.fail();
    this.#objects.set(name, { ...known, metadata: { ...known.metadata, uid: "another" } });
  }

  remove(name: string): void {
    this.#objects.delete(name);
    this.controller?.remove({ namespace: "demo", name });
  }

  tell(object: ServiceEntry): void {
    if (!this.#objects.has(object.metadata.name)) this.#objects.set(object.metadata.name, object);
    this.controller?.put(object);
  }

  find(name: string): ServiceEntry | undefined {
    return this.#objects.get(name);
  }

  all(): readonly ServiceEntry[] {
    return [...this.#objects.values()];
  }

  addresses(name: string): readonly string[] {
    return (this.find(name)?.status?.addresses ?? []).map(({ value, host }) => `${value}=${host}`);
  }

  async start(): Promise<void> {
    this.controller?.start();
    await this.settled();
  }

  settled(): Promise<void> | undefined {
    return this.controller?.settled();
  }

  fail(times: number, code: StoreErrorCode): void {
    this.#failures = Array.from({ length: times }, () => code);
  }

  event({ metadata }: KubeObject, { type, reason }: EventInput): void {
    this.events.push(`${type} ${reason} ${metadata.namespace}/${metadata.name}`);
  }

  async patch<T extends KubeObject>(
    _kind: ResourceKind<T>,
    { namespace, name }: ObjectRef,
    patch: Patch,
    options?: WriteOptions,
  ): Promise<T> {
    await Promise.resolve();
    this.writes.push(`patch ${namespace}/${name} ${options?.subresource}`);
    this.beforeWrite?.();
    const failure = this.#failures.shift();
    if (failure !== undefined) throw new StoreError(failure, "as the test wants it");
    const known = this.find(name);
    if (known === undefined) throw new StoreError("NOT_FOUND", "not there");
    assert.equal(patch.type, "json");
    const document = structuredClone(known) as unknown as Record<string, Record<string, unknown> | undefined>;
    for (const operation of patch.type === "json" ? patch.body : []) {
      const [, first = "", second] = operation.path.split("/");
      const parent = second === undefined ? document : document[first];
      const field = second ?? first;
      if (parent === undefined) throw new StoreError("INVALID", `${operation.path}: no parent`);
      if (operation.op !== "add" && parent[field] === undefined)
        throw new StoreError("INVALID", `${operation.path}: none`);
      if (operation.op === "test") {
        if (JSON.stringify(parent[field]) !== JSON.stringify(operation.value)) throw new StoreError("CONFLICT", "test");
      } else if (operation.op === "remove") delete parent[field];
      else parent[field] = structuredClone(operation.value) as Record<string, unknown>;
    }
    return this.#set(document as unknown as ServiceEntry) as unknown as T;
  }

  #set(object: ServiceEntry): ServiceEntry {
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#objects.set(object.metadata.name, stored);
    this.controller?.put(stored);
    return stored;
  }
}
