import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "@tulle/api";
import type { Log } from "@tulle/base";
import { newService, newWorkload, type PutChange } from "@tulle/mesh";
import { DEFAULT_MESH_SETTINGS, type MeshChanges, MeshIndex } from "@tulle/mesh/convert";
import { Discovery, type DiscoveryOptions, type FlushInfo } from "./discovery.ts";

interface Told {
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

/** What a sink is told, by type. */
class Sink {
  readonly told: [typeUrl: string, Told][] = [];

  update: DiscoveryOptions["sink"]["update"] = (typeUrl, { changed = [], removed = [] }) => {
    this.told.push([typeUrl, { changed: changed.map(({ name }) => name), removed }]);
  };

  take(): [string, Told][] {
    return this.told.splice(0);
  }
}

function pod(name: string, podIP = "10.0.0.1") {
  const metadata = { name, namespace: "shop" };
  return { apiVersion: "v1", kind: "Pod", metadata, status: { phase: "Running", podIP } };
}

/** Followed in simulated time: nothing happens but what the test lets happen. */
function follow(
  t: TestContext,
  windowMs: number,
  index: DiscoveryOptions["index"] = new MeshIndex(DEFAULT_MESH_SETTINGS),
) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const [sink, lines, flushes, leftOut]: [Sink, string[], FlushInfo[], string[]] = [new Sink(), [], [], []];
  const discovery = new Discovery({
    index,
    sink,
    windowMs,
    log: recorder(lines),
    onFlushed: (flush) => flushes.push(flush),
    onLeftOut: (kind) => leftOut.push(kind),
  });
  t.after(() => discovery.close());
  return { discovery, sink, lines, flushes, leftOut };
}

for (const [what, configured, windowMs] of [
  ["the configured window", 5, 5],
  ["10 ms, whatever is configured", 500, 10],
] as const) {
  test(`a steady stream of changes leaves after ${what}, counted from the first of each batch`, (t) => {
    const { discovery, flushes } = follow(t, configured);
    discovery.start();
    assert.equal(flushes.length, 1);
    const left: number[] = [];
    for (let now = 0; now < 100; now++) {
      discovery.put("Pod", pod("busy", `10.0.0.${now}`));
      const before = flushes.length;
      t.mock.timers.tick(1);
      if (flushes.length > before) left.push(now + 1);
    }
    // The next batch begins with the change after the flush: never a moment of quiet, and none is waited for.
    assert.deepEqual(
      left,
      Array.from({ length: 100 / windowMs }, (_, i) => (i + 1) * windowMs),
    );
    assert.ok(
      flushes.slice(1).every(({ puts }) => puts === 1),
      "what changed several times is told once",
    );
  });
}

test("a single change leaves after the window, and quiet costs nothing", (t) => {
  const { discovery, sink, flushes } = follow(t, 5);
  discovery.put("Pod", pod("early"));
  t.mock.timers.tick(1000);
  assert.deepEqual(sink.take(), [], "nothing leaves before the start");
  discovery.start();
  assert.deepEqual(sink.take(), [[ADDRESS_TYPE, { changed: ["Kubernetes//Pod/shop/early"], removed: [] }]]);
  t.mock.timers.tick(1000);
  discovery.put("Pod", pod("late", "10.0.0.2"));
  t.mock.timers.tick(4);
  assert.deepEqual(sink.take(), []);
  t.mock.timers.tick(1);
  assert.deepEqual(sink.take(), [[ADDRESS_TYPE, { changed: ["Kubernetes//Pod/shop/late"], removed: [] }]]);
  const before = flushes.length;
  t.mock.timers.tick(1000);
  assert.equal(flushes.length, before);
});

test("a resource that cannot be encoded takes no other along, and is served as soon as it can be", (t) => {
  const index = new Scripted();
  const { discovery, sink, lines, leftOut } = follow(t, 5, index);
  const service = (port: number): PutChange => ({
    kind: "service",
    service: newService({ name: "s", namespace: "shop", hostname: "s.example", ports: new Map([[port, 80]]) }),
  });
  const workload = (uid: string, capacity = 1): PutChange => ({
    kind: "workload",
    workload: newWorkload({ uid, name: uid, namespace: "shop", capacity }),
  });
  index.next = { puts: [service(80), workload("w")], removes: [{ kind: "workload", key: "old" }] };
  discovery.start();
  assert.deepEqual(sink.take(), [[ADDRESS_TYPE, { changed: ["shop/s.example", "w"], removed: ["old"] }]]);

  const policy = { kind: "policy", policy: { namespace: "shop", name: "p", scope: 7 } } as unknown as PutChange;
  index.next = {
    puts: [policy, service(-1), workload("v", 1.5), workload("x")],
    removes: [{ kind: "policy", key: "shop/q" }],
  };
  discovery.put("Pod", pod("any"));
  t.mock.timers.tick(5);
  assert.deepEqual(sink.take(), [
    [AUTHORIZATION_TYPE, { changed: [], removed: ["shop/q"] }],
    // What was served of it under other circumstances is not left standing.
    [ADDRESS_TYPE, { changed: ["x"], removed: ["shop/s.example", "v"] }],
  ]);
  assert.deepEqual(leftOut, ["policy", "service", "workload"]);
  assert.equal(lines.filter((line) => line.includes("a resource cannot be encoded")).length, 3);
  assert.match(lines.join("\n"), /shop\/s\.example.*invalid uint32: -1/);

  index.next = { puts: [service(80), workload("v")], removes: [] };
  discovery.put("Pod", pod("any"));
  t.mock.timers.tick(5);
  assert.deepEqual(sink.take(), [[ADDRESS_TYPE, { changed: ["shop/s.example", "v"], removed: [] }]]);
});

function recorder(lines: string[]): Log {
  const nothing = () => undefined;
  const log: Log = {
    ...{ debug: nothing, info: nothing, warn: nothing, scope: () => log },
    error: (message, fields) => lines.push(`${message} ${JSON.stringify(fields)}`),
  };
  return log;
}

/** An index whose next changes a test names. */
class Scripted implements Pick<MeshIndex, "put" | "remove" | "reconfigure" | "flush"> {
  next: Omit<MeshChanges, "statuses"> = { puts: [], removes: [] };

  put(): void {}
  remove(): void {}
  reconfigure(): void {}

  flush(): MeshChanges {
    return { ...this.next, statuses: [] };
  }
}
