import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CONFIG_MAP, KubeApi, KubernetesStore, TokenFile } from "@tulle/store";
import { page, sendJson, sendStatus, startScriptedApi } from "./scripted-api.ts";

const REF = { namespace: "default", name: "a" };

test("an answer that does not come is given up in time, and the message says where", async () => {
  await using api = await startScriptedApi(() => {});
  await using store = new KubernetesStore({ connection: api.connection, component: "x", timings: { requestMs: 100 } });
  await assert.rejects(store.get(CONFIG_MAP, REF), {
    code: "UNAVAILABLE",
    message: /get configmaps a in default: no answer from http:\/\/127.0.0.1:\d+ within 0.1 s/,
  });
});

test("a body that stops in the middle, or that is no JSON, is no answer", async () => {
  await using api = await startScriptedApi((request, response) => {
    response.writeHead(200, { "content-length": "100" });
    response.write('{"kind":');
    if (request.url?.endsWith("cut") === true) response.destroy();
    else response.end(" ".repeat(92));
  });
  using _ = closing(new KubeApi(api.connection));
  await assert.rejects(_.api.request("GET", "/cut"), { code: "UNAVAILABLE" });
  await assert.rejects(_.api.request("GET", "/garbled"), { code: "UNAVAILABLE" });
});

test("a refused token is read again from its file, once", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tulle-token-"));
  const path = join(folder, "token");
  writeFileSync(path, "old");
  const file = new TokenFile(path);
  const seen: string[] = [];
  await using api = await startScriptedApi((request, response) => {
    const token = request.headers.authorization ?? "";
    seen.push(token);
    if (token === "Bearer new") return sendJson(response, 200, {});
    // As kubelet does, in the moment in which the old one ends.
    writeFileSync(path, request.url === "/renewed" ? "new" : "older");
    return sendStatus(response, 401, "Unauthorized");
  });
  using _ = closing(new KubeApi({ ...api.connection, authorization: (renew) => file.authorization(renew) }));
  await _.api.request("GET", "/renewed");
  assert.deepEqual(seen.splice(0), ["Bearer old", "Bearer new"]);
  await assert.rejects(
    (async () => {
      writeFileSync(path, "old");
      await _.api.request("GET", "/refused");
    })(),
    { code: "FORBIDDEN" },
  );
  assert.equal(seen.length, 2);
  rmSync(path);
  assert.match(await file.authorization(false), /^Bearer old/, "a file that is missing for a moment changes nothing");
  rmSync(folder, { recursive: true });
});

test("overload is waited out as the server asks, within bounds", async () => {
  let refusals = 2;
  await using api = await startScriptedApi((_request, response) => {
    refusals -= 1;
    if (refusals >= 0) sendStatus(response, 429, "TooManyRequests", { "retry-after": "0.01" });
    else sendJson(response, 201, {});
  });
  using _ = closing(new KubeApi(api.connection));
  await _.api.request("POST", "/x", { body: {} });
  assert.equal(api.requests.length, 3);
  refusals = 1000;
  await assert.rejects(_.api.request("POST", "/x", { body: {} }), { code: "UNAVAILABLE", status: 429 });
  assert.equal(api.requests.length, 3 + 4);
});

test("a list whose continuation expires begins again, and gives each object once", async () => {
  let expire = 1;
  await using api = await startScriptedApi((request, response) => {
    const { searchParams } = new URL(request.url ?? "", "http://x");
    assert.equal(searchParams.get("limit"), "2");
    const token = searchParams.get("continue");
    if (token === null) sendJson(response, 200, page(["a", "b"], "10", "next"));
    else if (expire-- > 0) sendStatus(response, 410, "Expired");
    else sendJson(response, 200, page(["c"], "10"));
  });
  await using store = new KubernetesStore({ connection: api.connection, component: "x", pageSize: 2 });
  const names = (await store.list(CONFIG_MAP)).map(({ metadata }) => metadata.name);
  assert.deepEqual(names, ["a", "b", "c"]);
  assert.equal(api.requests.length, 4);
  expire = 1000;
  await assert.rejects(store.list(CONFIG_MAP), { code: "UNAVAILABLE", status: 410 });
});

test("more requests than can wait are refused at once", async () => {
  await using api = await startScriptedApi(() => {});
  const client = new KubeApi(api.connection);
  const waiting = Array.from({ length: 2048 }, () => client.request("GET", "/x").catch((error: unknown) => error));
  await assert.rejects(client.request("GET", "/x"), { code: "UNAVAILABLE", message: /requests wait already/ });
  client.close();
  for (const error of await Promise.all(waiting)) assert.match(String(error), /the store is closed/);
  await assert.rejects(client.request("GET", "/x"), { message: /the store is closed/ });
});

test("a refusal does not quote the object, which may be secret", async () => {
  await using api = await startScriptedApi((_request, response) => {
    const message = 'Secret "" is invalid: patch: Invalid value: "{\\"data\\":\\"c2VjcmV0\\"}": json: cannot unmarshal';
    sendJson(response, 422, { kind: "Status", code: 422, reason: "Invalid", message });
  });
  await using store = new KubernetesStore({ connection: api.connection, component: "x" });
  await assert.rejects(store.patch(CONFIG_MAP, REF, { type: "merge", body: {} }), (error: Error) => {
    assert.match(error.message, /Invalid value: …: json: cannot unmarshal/);
    return !error.message.includes("c2VjcmV0");
  });
});

function closing(api: KubeApi): Disposable & { readonly api: KubeApi } {
  return { api, [Symbol.dispose]: () => api.close() };
}
