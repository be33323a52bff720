import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { sleep } from "@tulle/base";
import { CONFIG_MAP, KubernetesStore, type KubernetesStoreOptions } from "@tulle/store";
import { page, sendJson, sendStatus, startScriptedApi } from "./scripted-api.ts";

const event = (type: string, name: string, resourceVersion: string): string =>
  `${JSON.stringify({ type, object: { metadata: { namespace: "default", name, uid: name, resourceVersion } } })}\n`;
const ERROR_410 = `${JSON.stringify({ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired" } })}\n`;
/** A watch's first bytes; the stream stays open. */
const stream = (response: ServerResponse, ...lines: readonly string[]): void => {
  response.writeHead(200, { "content-type": "application/json" });
  response.flushHeaders();
  for (const line of lines) response.write(line);
};
const versionOf = (url = ""): string | null => new URL(url, "http://x").searchParams.get("resourceVersion");
const isWatch = (url = ""): boolean => url.includes("watch=1");

test("a silent watch is opened anew from its last bookmark", async () => {
  await using api = await startScriptedApi((request, response) => {
    if (!isWatch(request.url)) sendJson(response, 200, page(["a"], "10"));
    else if (versionOf(request.url) === "10") stream(response, event("BOOKMARK", "", "50"));
    else stream(response, event("ADDED", "b", "51"));
  });
  using seen = follow(api.connection, { silenceMs: 50 });
  await until("the second watch", () => seen.calls.includes("put b 51"));
  assert.deepEqual(seen.calls.slice(0, 3), ["put a 1", "synced", "put b 51"]);
  assert.equal(api.requests.filter((line) => !isWatch(line)).length, 1, "listed once");
  assert.ok(api.requests.every((line) => !isWatch(line) || line.includes("allowWatchBookmarks=true")));
  assert.equal(seen.watch.state.problem, undefined);
});

test("events are put together from pieces, and a broken one opens the watch anew from the last good", async () => {
  let watches = 0;
  const line = event("ADDED", "ö", "11");
  await using api = await startScriptedApi((request, response) => {
    if (!isWatch(request.url)) return sendJson(response, 200, page([], "10"));
    watches += 1;
    if (watches > 1) return stream(response);
    stream(response);
    const bytes = Buffer.from(`${line}{broken\n`);
    for (const byte of bytes) response.write(Buffer.from([byte]));
    return undefined;
  });
  using seen = follow(api.connection);
  await until("the second watch", () => watches === 2);
  assert.deepEqual(seen.calls, ["synced", "put ö 11"]);
  assert.equal(versionOf(api.requests.at(-1)?.slice(4)), "11");
});

test("a server that has forgotten the history is listed again, at once the first time, and not in a busy loop", async () => {
  await using api = await startScriptedApi((request, response) => {
    if (isWatch(request.url)) return void (stream(response, ERROR_410), response.end());
    return sendJson(response, 200, page(["a"], "10"));
  });
  using seen = follow(api.connection);
  await until("it to try again", () => api.requests.length >= 4);
  const [before, begin] = [api.requests.length, performance.now()];
  await sleep(400);
  const [after, tookMs] = [api.requests.length - before, performance.now() - begin];
  assert.ok(after <= (12 * tookMs) / 400, `${after} requests in ${tookMs} ms`);
  assert.deepEqual(seen.calls, ["put a 1", "synced"]);
});

test("a server that ends each watch at once is not asked in a busy loop", async () => {
  await using api = await startScriptedApi((request, response) => {
    if (isWatch(request.url)) return void (stream(response), response.end());
    return sendJson(response, 200, page([], "10"));
  });
  using _seen = follow(api.connection);
  await sleep(400);
  assert.ok(api.requests.length <= 8, `${api.requests.length} requests in 0.4 s`);
});

test("objects do not vanish with a server that for a moment does not know their kind", async () => {
  let missing = 0;
  await using api = await startScriptedApi((request, response) => {
    if (missing > 0) {
      missing -= 1;
      return sendStatus(response, 404, "NotFound");
    }
    if (!isWatch(request.url)) return sendJson(response, 200, page(["a"], "10"));
    stream(response);
    setTimeout(() => response.end(), 20);
    return undefined;
  });
  using seen = follow(api.connection, { missingKindMs: 5 });
  await seen.watch.whenSynced();
  missing = 2;
  await until("the kind to be back", () => missing === 0);
  await until("the watch to go on", () => seen.watch.state.problem === undefined);
  assert.deepEqual(seen.calls, ["put a 1", "synced"]);
  missing = 1_000_000;
  await until("it to count as gone", () => seen.watch.size === 0);
  assert.deepEqual(seen.calls, ["put a 1", "synced", "gone a 1"]);
});

test("closing ends what is under way", async () => {
  await using api = await startScriptedApi((request, response) => {
    if (isWatch(request.url)) stream(response);
    else sendJson(response, 200, page([], "10"));
  });
  const store = new KubernetesStore({ connection: api.connection, component: "x" });
  const watch = store.watch(CONFIG_MAP, { put() {}, gone() {} });
  await watch.whenSynced();
  await until("the watch", () => api.requests.length === 2);
  await store[Symbol.asyncDispose]();
  const asked = api.requests.length;
  await sleep(200);
  assert.equal(api.requests.length, asked);
});

function follow(connection: KubernetesStoreOptions["connection"], timings: KubernetesStoreOptions["timings"] = {}) {
  const store = new KubernetesStore({ connection, component: "x", timings });
  const calls: string[] = [];
  const tell = (what: string) => (object: { metadata: { name: string; resourceVersion?: string } }) =>
    void calls.push(`${what} ${object.metadata.name} ${object.metadata.resourceVersion ?? ""}`);
  const handler = { put: tell("put"), gone: tell("gone"), synced: () => void calls.push("synced") };
  const watch = store.watch(CONFIG_MAP, handler);
  return { watch, calls, [Symbol.dispose]: () => void store[Symbol.asyncDispose]() };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited 10 s for: ${what}`);
    await sleep(5);
  }
}
