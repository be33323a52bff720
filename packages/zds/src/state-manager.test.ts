import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import type { PodInfo } from "./protocol.ts";
import { type PodNamespace, type ProxyRunner, StateManager, ZdsProtocolError } from "./state-manager.ts";

const INFO: PodInfo = { name: "p", namespace: "ns", serviceAccount: "sa" };

/** A namespace's handle that knows whether somebody closed it. */
class FakeNamespace implements PodNamespace {
  readonly key: string;
  closed = 0;

  constructor(key: string) {
    this.key = key;
  }

  close(): void {
    this.closed++;
  }
}

function setUp(retryMs = 60_000) {
  const log: string[] = [];
  const handles: FakeNamespace[] = [];
  const failing = new Set<string>();
  const runner: ProxyRunner<FakeNamespace> = {
    start: async (uid, _, namespace) => {
      log.push(`start ${uid}@${namespace.key}`);
      await Promise.resolve();
      if (failing.has(uid)) throw new Error("bind failed");
    },
    stop: async (uid) => {
      log.push(`stop ${uid}`);
      await Promise.resolve();
    },
  };
  const state = new StateManager({ runner, log: silentLog, retryMs });
  state.connected();
  const add = (uid: string, key = uid) => {
    const namespace = new FakeNamespace(key);
    handles.push(namespace);
    return state.add(uid, INFO, namespace);
  };
  /** Every handle is closed exactly once in the end, and none before that while its pod is served. */
  const end = () => {
    state.close();
    assert.deepEqual(
      handles.map(({ closed }) => closed),
      handles.map(() => 1),
      "each handle is closed once",
    );
  };
  return { state, log, failing, handles, add, [Symbol.dispose]: end };
}

test("add starts a proxy, and a snapshot without pending ones makes ready", async () => {
  using rig = setUp();
  await rig.add("a");
  assert.deepEqual([rig.state.active, rig.state.pending, rig.state.ready], [1, 0, false]);
  await rig.state.snapshotSent();
  assert.equal(rig.state.ready, true);
  assert.deepEqual(rig.log, ["start a@a"]);
});

test("idempotent add: in the snapshot, after it, and in the next one", async () => {
  using rig = setUp();
  await rig.add("a");
  await rig.add("a");
  await rig.state.snapshotSent();
  await rig.add("a");
  rig.state.disconnected();
  rig.state.connected();
  await rig.add("a");
  await rig.state.snapshotSent();
  assert.deepEqual(rig.log, ["start a@a"]);
  assert.deepEqual(
    rig.handles.map(({ closed }) => closed),
    [0, 1, 1, 1],
  );
});

test("added_while_pending: a pod that could not be started is tried again when it is announced again", async () => {
  using rig = setUp();
  rig.failing.add("a");
  await assert.rejects(rig.add("a"), /bind failed/);
  await rig.state.snapshotSent();
  assert.equal(rig.state.ready, false);
  rig.failing.clear();
  await rig.add("a");
  assert.equal(rig.state.ready, true);
  assert.deepEqual(rig.log, ["start a@a", "start a@a"]);
});

test("del_before_snapshot: the proxy goes on until the snapshot shows that nobody wants it", async () => {
  using rig = setUp();
  await rig.add("a");
  await rig.state.snapshotSent();
  rig.state.connected();
  await rig.state.del("a");
  assert.equal(rig.state.active, 1);
  await rig.state.snapshotSent();
  assert.equal(rig.state.active, 0);
  assert.deepEqual(rig.log, ["start a@a", "stop a"]);
});

test("a pending pod that is deleted is tried no more", async () => {
  using rig = setUp();
  rig.failing.add("a");
  await assert.rejects(rig.add("a"));
  await rig.state.del("a");
  await rig.state.snapshotSent();
  assert.equal(rig.state.ready, true);
  assert.deepEqual(rig.log, ["start a@a"]);
});

test("add_delete_add: messages that overlap are handled one after another", async () => {
  using rig = setUp();
  await rig.state.snapshotSent();
  const all = [rig.add("a"), rig.state.del("a"), rig.add("a"), rig.state.del("a"), rig.add("a", "new")];
  await Promise.all(all);
  assert.deepEqual(rig.log, ["start a@a", "stop a", "start a@a", "stop a", "start a@new"]);
  assert.equal(rig.state.active, 1);
});

test("kept_with_new_snapshot: what is kept or announced again goes on, the rest ends", async () => {
  using rig = setUp();
  for (const uid of ["kept", "again", "gone"]) await rig.add(uid);
  await rig.state.snapshotSent();
  rig.state.disconnected();
  assert.equal(rig.state.ready, false);
  rig.state.connected();
  rig.state.keep("kept");
  rig.state.keep("never seen");
  await rig.add("again");
  await rig.state.snapshotSent();
  assert.deepEqual(
    rig.state.pods().map(({ uid }) => uid),
    ["kept", "again"],
  );
  assert.equal(rig.log.at(-1), "stop gone");
  assert.equal(rig.state.ready, true);
});

test("different_netns_keeps_latest", async () => {
  using rig = setUp();
  await rig.add("a", "1");
  await rig.add("a", "2");
  await rig.add("a", "2");
  assert.deepEqual(rig.log, ["start a@1", "stop a", "start a@2"]);
  assert.deepEqual(
    rig.handles.map(({ closed }) => closed),
    [1, 0, 1],
  );
});

test("a pending pod is tried again by itself until it works", async () => {
  using rig = setUp(5);
  rig.failing.add("a");
  await assert.rejects(rig.add("a"), /bind failed/);
  await rig.state.snapshotSent();
  while (rig.log.length < 4) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(rig.state.pods()[0], { uid: "a", info: INFO, state: "Pending" });
  rig.failing.clear();
  while (!rig.state.ready) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(rig.state.pods()[0]?.state, "Up");
});

test("messages that may not come are named as such", async () => {
  using rig = setUp();
  await rig.state.snapshotSent();
  await assert.rejects(rig.state.snapshotSent(), ZdsProtocolError);
  assert.throws(() => rig.state.keep("a"), ZdsProtocolError);
});

test("a proxy that cannot be stopped still gives its namespace back", async () => {
  const namespace = new FakeNamespace("1");
  const runner = { start: () => Promise.resolve(), stop: () => Promise.reject(new Error("stuck")) };
  const state = new StateManager<FakeNamespace>({ runner, log: silentLog });
  state.connected();
  await state.add("a", INFO, namespace);
  await state.snapshotSent();
  await assert.rejects(state.del("a"), /stuck/);
  assert.equal(namespace.closed, 1);
  state.close();
});

test("pods are bounded", async () => {
  using rig = setUp();
  for (let i = 0; i < 4096; i++) await rig.add(`${i}`);
  await assert.rejects(rig.add("one too many"), /4096 pods are served already/);
  await rig.add("7");
});

test("a pod that joins after the snapshot is answered for when it is ready; those of the snapshot do not wait", async () => {
  const gate = Promise.withResolvers<void>();
  const asked: string[] = [];
  const runner: ProxyRunner<FakeNamespace> = {
    start: () => Promise.resolve(),
    whenReady: (uid) => {
      asked.push(uid);
      return gate.promise;
    },
    stop: () => Promise.resolve(),
  };
  const state = new StateManager({ runner, log: silentLog });
  state.connected();
  await state.add("early", INFO, new FakeNamespace("early"));
  await state.snapshotSent();
  let answered = false;
  const joined = state.add("late", INFO, new FakeNamespace("late")).then(() => (answered = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(asked, ["late"]);
  assert.equal(answered, false);
  gate.resolve();
  await joined;
  await state.add("late", INFO, new FakeNamespace("late"));
  assert.deepEqual(asked, ["late"], "one that is served already is ready");
  state.close();
});
