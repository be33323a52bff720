import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { silentLog } from "@tulle/base";
import { HttpServer } from "./http-server.ts";
import { Readiness, startReadinessServer, ThreadWatch } from "./readiness.ts";

const readiness = new Readiness();
const server = await startReadinessServer({ addresses: [{ ip: "127.0.0.1", port: 0 }], readiness, log: silentLog });
after(() => server.close());
const url = `http://127.0.0.1:${server.addresses[0]?.port}/healthz/ready`;

async function get(path = url, method = "GET") {
  const response = await fetch(path, { method });
  return [response.status, await response.text()];
}

describe("readiness", () => {
  it("names what is pending, sorted, until everything is done", async () => {
    const state = readiness.task("state manager");
    const dns = readiness.task("dns proxy");
    assert.deepEqual(await get(), [500, "not ready, pending: dns proxy, state manager\n"]);
    dns();
    assert.deepEqual(await get(), [500, "not ready, pending: state manager\n"]);
    state();
    assert.deepEqual(await get(), [200, "ready\n"]);
  });

  it("can be lost again", async () => {
    const resynced = readiness.task("workload proxy manager");
    assert.deepEqual(await get(), [500, "not ready, pending: workload proxy manager\n"]);
    resynced();
    resynced();
    assert.deepEqual(await get(), [200, "ready\n"]);
  });

  it("asks checks each time", async () => {
    const stuck = ["data thread 1"];
    readiness.check(() => stuck);
    assert.deepEqual(await get(), [500, "not ready, pending: data thread 1\n"]);
    stuck.pop();
    assert.deepEqual(await get(), [200, "ready\n"]);
  });

  it("is only to be read, and only there", async () => {
    assert.equal((await get(url, "POST"))[0], 405);
    assert.equal((await get(url.replace("/ready", "")))[0], 404);
  });
});

describe("the watch over data threads", () => {
  it("names a thread whose loop has not turned for five seconds, until it turns again", () => {
    let now = 0;
    const turns = [1, 1];
    const watch = new ThreadWatch(
      () => turns,
      () => now,
    );
    assert.deepEqual(watch.stuck(), []);
    now = 5000;
    turns[0] = 2;
    assert.deepEqual(watch.stuck(), []);
    now = 5001;
    assert.deepEqual(watch.stuck(), ["data thread 1"]);
    turns[1] = 2;
    assert.deepEqual(watch.stuck(), []);
  });
});

describe("a server of the main thread", () => {
  it("says which address it could not have, and keeps none", async () => {
    const taken = server.addresses[0] ?? { ip: "", port: 0 };
    const options = { name: "test", handle: () => {}, log: silentLog };
    const free = { ip: "127.0.0.1", port: 0 };
    await assert.rejects(HttpServer.start({ ...options, addresses: [free, taken] }), {
      code: "BIND_FAILED",
      message: new RegExp(`^failed to bind to address 127.0.0.1:${taken.port}: `),
    });
  });
});
