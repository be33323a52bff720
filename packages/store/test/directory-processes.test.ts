import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { CONFIG_MAP } from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
import { LockFolder } from "../src/directory/object-lock.ts";

const root = mkdtempSync(join(tmpdir(), "tulle-processes-"));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(root, { recursive: true, force: true });
});

const SHARED = { namespace: "default", name: "shared" };
const SHARED_LOCK = "ConfigMap.core~default~shared.json";

async function openWithShared(name: string): Promise<{ readonly store: DirectoryStore; readonly state: string }> {
  const state = join(root, name);
  const store = await DirectoryStore.open({ directory: undefined, state, component: "tulle-test" });
  await store.create(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata: SHARED });
  return { store, state };
}

function run(...args: readonly string[]): ChildProcess {
  const program = join(import.meta.dirname, "store-process.ts");
  const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

test("writers in three processes lose none of each other's fields", async () => {
  const { store, state } = await openWithShared("writers");
  await using _ = store;
  const count = 60;
  const others = ["a", "b"].map((prefix) => run("write", state, prefix, String(count)));
  const exits = Promise.all(others.map((child) => once(child, "exit")));
  for (let index = 0; index < count; index++) {
    await store.patch(CONFIG_MAP, SHARED, { type: "merge", body: { data: { [`c${index}`]: "1" } } });
  }
  assert.deepEqual(
    (await exits).map(([code]) => code as number),
    [0, 0],
  );
  const { data = {} } = (await store.get(CONFIG_MAP, SHARED)) ?? {};
  assert.equal(Object.keys(data).length, 3 * count);
  assert.deepEqual(readdirSync(join(state, "locks")), []);
  assert.deepEqual(readdirSync(join(state, "tmp")), []);
});

test("another process sees a change at once", async () => {
  const { store, state } = await openWithShared("watcher");
  await using _ = store;
  const child = run("watch", state);
  let output = "";
  const lines = () => output.split("\n");
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const seen = async (text: string) => {
    while (!lines().some((line) => line.includes(text))) await once(child.stdout ?? child, "data");
    return lines().find((line) => line.includes(text)) ?? "";
  };
  await seen("synced");
  const delays: number[] = [];
  for (let index = 0; index < 10; index++) {
    const written = Date.now();
    await store.patch(CONFIG_MAP, SHARED, { type: "merge", body: { data: { step: String(index) } } });
    delays.push(Number.parseInt(await seen(`"${index}"`), 10) - written);
  }
  delays.sort((a, b) => a - b);
  // Who is not notified sees it when it looks again, after two seconds.
  assert.ok((delays[5] ?? Number.POSITIVE_INFINITY) < 1000, `milliseconds: ${delays.join(", ")}`);
});

test("a lock whose owner was killed does not hold anybody up", async () => {
  const { store, state } = await openWithShared("crash");
  await using _ = store;
  const [, signal] = (await once(run("crash", state), "exit")) as [unknown, string];
  assert.equal(signal, "SIGKILL");
  assert.deepEqual(readdirSync(join(state, "locks")), [`${SHARED_LOCK}.lock`]);
  const started = performance.now();
  await Promise.all(
    ["a", "b", "c"].map((key) => store.patch(CONFIG_MAP, SHARED, { type: "merge", body: { data: { [key]: "1" } } })),
  );
  // A lock that somebody may hold is waited for five seconds.
  assert.ok(performance.now() - started < 4500);
  assert.deepEqual((await store.get(CONFIG_MAP, SHARED))?.data, { a: "1", b: "1", c: "1" });
  assert.deepEqual(readdirSync(join(state, "locks")), []);
});

test("a lock whose owner lives is waited for, within bounds, and is not taken away", async () => {
  const folder = mkdtempSync(join(root, "locks-"));
  const locks = new LockFolder(folder, { random: Math.random, waitMs: 100 });
  await locks.holdLong("x", async () => {
    await assert.rejects(
      locks.hold("x", () => assert.fail("two at once")),
      {
        code: "UNAVAILABLE",
        message: new RegExp(`locked for 0.1 s by .*"pid":${process.pid}`),
      },
    );
    assert.deepEqual(readdirSync(folder), ["x.lock"]);
  });
  // A moment old and unreadable: its writer may be about to write it.
  writeFileSync(join(folder, "y.lock"), "");
  await assert.rejects(
    locks.hold("y", () => assert.fail("two at once")),
    { code: "UNAVAILABLE" },
  );
  // As after a restart of the machine: the number is another process's now.
  writeFileSync(join(folder, "z.lock"), JSON.stringify({ pid: process.pid, started: "1", namespace: locks.namespace }));
  assert.equal(await locks.hold("z", () => "held"), "held");
});
