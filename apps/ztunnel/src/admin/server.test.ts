import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { after, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import { type Log, silentLog } from "@tulle/base";
import { LogFilter } from "@tulle/telemetry";
import { Profiler } from "@tulle/telemetry/profiling";
import { readProfile } from "@tulle/testkit";
import { versionInfo } from "../version.ts";
import type { DumpSources } from "./config-dump.ts";
import { startAdminServer } from "./server.ts";

const mesh = {
  workloads: [{ uid: "c//Pod/ns/a", name: "a" }],
  services: [{ hostname: "a.ns.svc.cluster.local", ports: { 443: 1, 15012: 2 } }],
  policies: [],
  stagedServices: {},
};
const FACTS = { pem: "-----BEGIN CERTIFICATE-----\n", serialNumber: "271", notBefore: 0, notAfter: 86_400_000 };

const dump: DumpSources = {
  mesh: () => mesh,
  staticConfig: () => ({ workloads: [], services: [], policies: [] }),
  certificates: () => [
    { uri: "spiffe://td/ns/n/sa/a", state: { kind: "available", certificate: { chain: [FACTS], roots: [FACTS] } } },
    { uri: "spiffe://td/ns/n/sa/b", state: { kind: "initializing" } },
    { uri: "spiffe://td/ns/n/sa/c", state: { kind: "unavailable", reason: "signing gRPC error" } },
  ],
  version: versionInfo("unknown"),
  config: { proxy: true },
  proxies: () => [
    { uid: "u-1", state: "Up", info: { name: "a", namespace: "ns", serviceAccount: "a" } },
    { uid: "u-2", state: "Pending", info: { name: "b", namespace: "ns", serviceAccount: "b" } },
    { uid: "u-3", state: "Up", info: { name: "c", namespace: "ns", serviceAccount: "c" } },
  ],
  connections: () =>
    Promise.resolve([
      {
        uid: "u-1",
        inbound: [{ src: "10.0.0.1:1", originalDst: null, actualDst: "10.0.0.2:2", protocol: "TCP" }],
        outbound: [],
      },
    ]),
  progress: () => ({ sent: 5, applied: 4 }),
};

const logs = {
  filter: LogFilter.default,
  setFilter(filter: LogFilter) {
    this.filter = filter;
  },
};

const shutdowns: number[] = [];
const warnings: string[] = [];
const log: Log = { ...silentLog, warn: (_message, fields) => void warnings.push(String(fields?.["reason"])) };

function start(overrides: Partial<DumpSources> = {}) {
  return startAdminServer({
    addresses: [
      { ip: "127.0.0.1", port: 0 },
      { ip: "::1", port: 0 },
    ],
    dump: { ...dump, ...overrides },
    logs,
    profiler: new Profiler(() => []),
    explain: (source, destination) => ({ outcome: "hbone", source, destination }),
    shutdown: () => shutdowns.push(1),
    log,
  });
}

const server = await start();
after(() => server.close());
const [v4 = { ip: "", port: 0 }, v6 = { ip: "", port: 0 }] = server.addresses;
const url = `http://127.0.0.1:${v4.port}`;

/** A request with exactly these header fields. */
async function send(path: string, headers: readonly string[], method = "GET") {
  const request = httpRequest({ host: "127.0.0.1", port: v4.port, path, method, headers, setHost: false });
  request.end();
  const [response] = await once(request, "response");
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode as number, body };
}

describe("the admin server", () => {
  it("answers on both loopback addresses", async () => {
    assert.equal((await fetch(`${url}/`)).status, 200);
    assert.equal((await fetch(`http://[::1]:${v6.port}/`)).status, 200);
    assert.equal((await fetch(`${url}/nothing`)).status, 404);
  });

  it("dumps what it knows under the keys that istioctl reads", async () => {
    const response = await fetch(`${url}/config_dump`);
    assert.equal(response.headers.get("content-type"), "application/json");
    const text = await response.text();
    const body = JSON.parse(text);
    assert.deepEqual(Object.keys(body), [
      "certificates",
      "config",
      "dataThreads",
      "policies",
      "services",
      "stagedServices",
      "staticConfig",
      "version",
      "workloadState",
      "workloads",
    ]);
    assert.ok(text.includes('  "services": [\n    {\n      "hostname": "a.ns.svc.cluster.local",\n'));
    assert.ok(text.indexOf('"15012"') < text.indexOf('"443"'));
    assert.deepEqual(body.certificates[0], {
      identity: "spiffe://td/ns/n/sa/a",
      state: "Available",
      certChain: [
        {
          pem: "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==",
          serialNumber: "271",
          validFrom: "1970-01-01T00:00:00Z",
          expirationTime: "1970-01-02T00:00:00Z",
        },
      ],
      rootCerts: body.certificates[0].certChain,
    });
    assert.deepEqual(body.certificates[1], {
      identity: "spiffe://td/ns/n/sa/b",
      state: "Initializing",
      certChain: [],
      rootCerts: [],
    });
    assert.equal(body.certificates[2].state, "Unavailable: signing gRPC error");
    assert.deepEqual(Object.keys(body.version).sort(), [
      "buildProfile",
      "buildStatus",
      "cryptoProvider",
      "gitRevision",
      "istioVersion",
      "rustVersion",
      "version",
    ]);
    assert.deepEqual(body.workloadState, {
      "u-1": {
        state: "Up",
        connections: {
          inbound: [{ src: "10.0.0.1:1", originalDst: null, actualDst: "10.0.0.2:2", protocol: "TCP" }],
          outbound: [],
        },
        info: { name: "a", namespace: "ns", serviceAccount: "a" },
      },
      "u-2": { state: "Pending", info: { name: "b", namespace: "ns", serviceAccount: "b" } },
      "u-3": {
        state: "Up",
        connections: { inbound: [], outbound: [] },
        info: { name: "c", namespace: "ns", serviceAccount: "c" },
      },
    });
    assert.deepEqual(body.dataThreads, { sent: 5, applied: 4 });
  });

  it("dumps without the connections when the data threads do not answer", async () => {
    const stuck = await start({ connections: () => new Promise(() => {}) });
    const response = await fetch(`http://127.0.0.1:${stuck.addresses[0]?.port}/config_dump`);
    const body = (await response.json()) as { workloadState: Record<string, object>; dataThreads: { problem: string } };
    assert.deepEqual(Object.keys(body.workloadState["u-1"] ?? {}), ["info", "state"]);
    assert.match(body.dataThreads.problem, /have not listed their connections/);
    await stuck.close();
  });

  it("dumps a large mesh without holding up the process, and stops when the client leaves", async () => {
    let taken = 0;
    const workloads = Array.from({ length: 40_000 }, (_, i) => ({
      get uid() {
        taken++;
        return `uid-${i} ${"x".repeat(400)}`;
      },
    }));
    const large = await start({ mesh: () => ({ ...mesh, workloads }) });
    const port = large.addresses[0]?.port ?? 0;
    const response = await fetch(`http://127.0.0.1:${port}/config_dump`);
    const body = (await response.json()) as { workloads: object[] };
    assert.equal(body.workloads.length, workloads.length);
    taken = 0;
    const socket = connect(port, "127.0.0.1");
    socket.write("GET /config_dump HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await once(socket, "readable");
    socket.destroy();
    // While nobody reads, the dump waits; a server that goes on would have come to the end.
    await large.close();
    assert.ok(taken < workloads.length, `${taken} workloads were printed for nobody`);
  });

  it("says what went wrong instead of hanging", async () => {
    const broken = await start({
      mesh: () => {
        throw new Error("no mesh");
      },
    });
    const response = await fetch(`http://127.0.0.1:${broken.addresses[0]?.port}/config_dump`);
    assert.equal(response.status, 500);
    assert.equal(await response.text(), "no mesh\n");
    await broken.close();
  });

  it("explains", async () => {
    const response = await fetch(`${url}/explain?src=ns%2Fa&dst=b:80`);
    assert.deepEqual(await response.json(), { outcome: "hbone", source: "ns/a", destination: "b:80" });
    assert.equal((await fetch(`${url}/explain?src=a`)).status, 400);
  });

  it("ends when it is posted to, not when it is looked at", async () => {
    assert.equal((await fetch(`${url}/quitquitquit`)).status, 405);
    assert.deepEqual(shutdowns, []);
    const response = await fetch(`${url}/quitquitquit`, { method: "POST" });
    assert.equal(response.status, 200);
    assert.equal(await response.text(), "shutdown now\n");
    while (shutdowns.length === 0) await new Promise((done) => setTimeout(done, 1));
    assert.deepEqual(shutdowns, [1]);
  });

  it("gives profiles that pprof can read", async () => {
    const response = await fetch(`${url}/debug/pprof/profile?seconds=1&frequency=1000`);
    assert.equal(response.status, 200);
    const profile = readProfile(gunzipSync(Buffer.from(await response.arrayBuffer())));
    assert.deepEqual(profile.sampleTypes, ["samples/count", "cpu/nanoseconds"]);
    for (const query of ["seconds=0", "seconds=301", "seconds=x", "frequency=0", "frequency=1001"]) {
      assert.equal((await fetch(`${url}/debug/pprof/profile?${query}`)).status, 400, query);
    }
    assert.equal((await fetch(`${url}/debug/pprof/heap`)).status, 500);
    const state = async (query: string) => (await fetch(`${url}/debug/pprof/heap/profiling${query}`)).text();
    assert.equal(await state(""), "heap profiling is inactive\n");
    assert.equal(await state("?activate=true"), "heap profiling is active\n");
    const heap = await fetch(`${url}/debug/pprof/heap`);
    assert.equal(heap.status, 200);
    readProfile(gunzipSync(Buffer.from(await heap.arrayBuffer())));
    assert.equal(await state("?activate=false"), "heap profiling is inactive\n");
  });
});

async function post(query: string) {
  const response = await fetch(`${url}/logging${query}`, { method: "POST" });
  return { status: response.status, text: await response.text() };
}

function now(filter: string) {
  return { status: 200, text: `current log level is ${filter}\n` };
}

describe("the level of the log", () => {
  it("is shown and changed, and set back", async () => {
    const standard = "hickory_server::server=off,info";
    assert.deepEqual(await post(""), now(standard));
    assert.deepEqual(await post("?level="), now(standard));
    assert.deepEqual(await post("?level=debug"), now("hickory_server::server=off,debug"));
    assert.deepEqual(
      await post("?level=access=debug,xds:warn"),
      now("hickory_server::server=off,access=debug,xds=warn,debug"),
    );
    assert.deepEqual(await post("?level=error&reset"), now("hickory_server::server=off,error"));
    assert.deepEqual(await post("?reset"), now(standard));
  });

  it("stays as it is when the wish is not understood", async () => {
    const before = logs.filter.toString();
    for (const level of ["loud", "access=loud", "info,,x=y", `${"a=info,".repeat(200)}b=x`]) {
      const answer = await post(`?level=${encodeURIComponent(level)}`);
      assert.equal(answer.status, 400);
      assert.match(answer.text, /^Invalid level provided: /);
    }
    assert.equal(logs.filter.toString(), before);
    const get = await fetch(`${url}/logging?level=debug`);
    assert.equal(get.status, 405);
    assert.match(await get.text(), /usage/);
  });
});

describe("a web page that tries to use the admin port", () => {
  const own = `localhost:${v4.port}`;
  const attempts: readonly [what: string, headers: readonly string[], path?: string][] = [
    ["under its own name", ["Host", "evil.example"]],
    ["under its own name with the port", ["Host", `evil.example:${v4.port}`]],
    ["under a name that begins like ours", ["Host", "localhost.evil.example"]],
    ["under a number", ["Host", "2130706433"]],
    ["from its own origin", ["Host", own, "Origin", "https://evil.example"]],
    ["from an opaque origin", ["Host", own, "Origin", "null"]],
    ["from localhost", ["Host", own, "Origin", "http://localhost:8080"]],
    ["with two hosts", ["Host", own, "Host", "evil.example"]],
    ["with an absolute target", ["Host", own], "http://evil.example/quitquitquit"],
  ];
  for (const [what, headers, path = "/quitquitquit"] of attempts) {
    it(`is refused ${what}`, async () => {
      const before = shutdowns.length;
      const { status, body } = await send(path, headers, "POST");
      assert.ok(status === 403 || status === 400, `status ${status}`);
      assert.equal(shutdowns.length, before);
      if (status === 403) assert.ok(body.length > 20, "with a reason");
    });
  }

  it("is refused without any Host, whatever the version", async () => {
    const socket = connect(v4.port, "127.0.0.1");
    socket.end("GET /config_dump HTTP/1.0\r\n\r\n");
    let text = "";
    for await (const chunk of socket) text += chunk;
    assert.match(text, /^HTTP\/1\.[01] 403 /);
  });

  it("is named in the log", () => assert.ok(warnings.some((reason) => reason.includes("evil.example"))));
});

describe("a client that is slow or greedy", () => {
  it("is cut off when it does not finish its header within two seconds", async () => {
    const socket = connect(v4.port, "127.0.0.1");
    socket.on("error", () => {
      // Being cut off is what is expected.
    });
    socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b");
    const startedAt = performance.now();
    let text = "";
    for await (const chunk of socket) text += chunk;
    assert.match(text, /^HTTP\/1\.1 408 /);
    assert.ok(performance.now() - startedAt < 9500, "before the request's own ten seconds");
  });

  it("is answered 431 when its header is over 8 KiB", async () => {
    const { status } = await send("/", ["Host", "localhost", "X-Long", "x".repeat(9000)]);
    assert.equal(status, 431);
    assert.equal((await send("/", ["Host", "localhost", "X-Long", "x".repeat(6000)])).status, 200);
  });

  it("may leave in the middle of a profile", async () => {
    const gone = new AbortController();
    const request = fetch(`${url}/debug/pprof/profile?seconds=300`, { signal: gone.signal }).catch(() => "gone");
    await new Promise((done) => setTimeout(done, 50));
    gone.abort();
    assert.equal(await request, "gone");
    // The next one may begin at once.
    let status = 503;
    while (status === 503) status = (await fetch(`${url}/debug/pprof/profile?seconds=1`)).status;
    assert.equal(status, 200);
  });
});
