import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import { type EventInput, type KubeObject, type ResourceKind, StoreError } from "./contract.ts";
import { EventRecorder } from "./event-recorder.ts";
import type { Event } from "./objects/builtin.ts";

const POD: KubeObject = { apiVersion: "v1", kind: "Pod", metadata: { namespace: "n", name: "p", uid: "u" } };
const said = (message: string): EventInput => ({ type: "Warning", reason: "Tested", message });

function setUp(fail: (call: number) => StoreError | undefined = () => undefined) {
  const written: Event[] = [];
  let calls = 0;
  let now = 0;
  const attempt = () => {
    calls += 1;
    const error = fail(calls);
    if (error !== undefined) throw error;
  };
  const store = {
    async create<T extends KubeObject>(_kind: ResourceKind<T>, object: T): Promise<T> {
      attempt();
      written.push(object as unknown as Event);
      return object;
    },
    async patch<T extends KubeObject>(
      _kind: ResourceKind<T>,
      ref: { readonly name: string },
      patch: { readonly body: unknown },
    ): Promise<T> {
      attempt();
      const index = written.findIndex(({ metadata }) => metadata.name === ref.name);
      if (index < 0) throw new StoreError("NOT_FOUND", "gone");
      const merged = { ...written[index], ...(patch.body as object) } as Event;
      written[index] = merged;
      return merged as unknown as T;
    },
  };
  const recorder = new EventRecorder({
    store,
    component: "c",
    instance: "node-1",
    log: silentLog,
    clock: { now: () => now, wall: () => 1_700_000_000_000 + now },
    random: () => 0.5,
  });
  return { recorder, written, calls: () => calls, advance: (ms: number) => void (now += ms) };
}

test("the rate per object is bounded, refills slowly, and is each object's own", async () => {
  const { recorder, written, advance } = setUp();
  for (let index = 0; index < 40; index++) recorder.record(POD, said(String(index)));
  recorder.record({ ...POD, metadata: { ...POD.metadata, name: "other", uid: "o" } }, said("other"));
  advance(300_000);
  recorder.record(POD, said("one more"));
  recorder.record(POD, said("too much"));
  await recorder.close();
  assert.equal(written.length, 25 + 1 + 1);
  assert.equal(recorder.dropped, 15 + 1);
});

test("a repetition long after the first is a new Event", async () => {
  const { recorder, written, advance } = setUp();
  recorder.record(POD, said("x"));
  recorder.record(POD, said("x"));
  advance(51 * 60_000);
  recorder.record(POD, said("x"));
  await recorder.close();
  assert.deepEqual(
    written.map(({ count }) => count),
    [2, 1],
  );
});

test("an Event that somebody deleted begins anew; what cannot be reached is tried again", async () => {
  const { recorder, written } = setUp((call) => (call === 1 ? new StoreError("UNAVAILABLE", "later") : undefined));
  recorder.record(POD, said("x"));
  while (written.length === 0) await new Promise(setImmediate);
  written.length = 0;
  recorder.record(POD, said("x"));
  await recorder.close();
  assert.deepEqual(
    written.map(({ count }) => count),
    [1],
  );
  assert.equal(recorder.dropped, 0);
});

test("a refusal is not repeated, and closing does not wait for ever", async () => {
  const refused = setUp(() => new StoreError("FORBIDDEN", "no"));
  refused.recorder.record(POD, said("x"));
  await refused.recorder.close();
  assert.deepEqual([refused.calls(), refused.recorder.dropped], [1, 1]);
  const unreachable = setUp(() => new StoreError("UNAVAILABLE", "no"));
  const started = performance.now();
  unreachable.recorder.record(POD, said("x"));
  await unreachable.recorder.close();
  assert.ok(performance.now() - started < 20_000);
  assert.equal(unreachable.recorder.dropped, 1);
});

test("long messages are cut, and cluster-scoped objects' Events are in default", async () => {
  const { recorder, written } = setUp();
  recorder.record({ apiVersion: "v1", kind: "Node", metadata: { name: "n".repeat(253) } }, said("m".repeat(5000)));
  await recorder.close();
  const [event] = written;
  assert.equal(event?.metadata.namespace, "default");
  assert.ok((event?.message?.length ?? 0) <= 1001 && (event?.metadata.name.length ?? 0) <= 253);
  assert.equal(event?.source?.host, "node-1");
});
