import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync, renameSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { ca } from "@tulle/api";
import { formatIdentity, type Identity, type Log, type LogFields, silentLog } from "@tulle/base";
import { startTestCaServer, type TestCaServer } from "@tulle/testkit";
import { spkiOf } from "./authority.ts";
import {
  CaClient,
  type CaClientOptions,
  CertificateAuthority,
  parseCsr,
  PrivateKey,
  startGrpcServer,
} from "./index.ts";

const IDENTITY: Identity = { trustDomain: "cluster.local", namespace: "default", serviceAccount: "productpage" };
const URI = "spiffe://cluster.local/ns/default/sa/productpage";
const NEVER = new AbortController().signal;
const directory = mkdtempSync(join(tmpdir(), "tulle-ca-"));
after(() => rmSync(directory, { recursive: true }));

const clients: CaClient[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

function clientOf(server: TestCaServer, options: Partial<CaClientOptions> = {}): CaClient {
  const client = new CaClient({
    address: server.address,
    roots: { kind: "pem", pem: server.authority.rootsPem },
    token: { kind: "literal", token: "node-token" },
    ...options,
  });
  clients.push(client);
  return client;
}

interface Request {
  readonly authority: CertificateAuthority;
  readonly roots: string;
  /** Signs the key of the request for these names. */
  readonly sign: (uris: string[]) => Promise<string[]>;
}
type Answer = (request: Request) => Promise<string[]>;

/** A CA that answers whatever the test wants, over real TLS. */
async function startLyingCa(answer: Answer) {
  const authority = await CertificateAuthority.selfSigned();
  const key = PrivateKey.generate();
  const { chain } = await authority.issue({ spki: spkiOf(key), dnsNames: ["localhost"] });
  const server = await startGrpcServer({
    certificateChainPem: chain.join(""),
    privateKeyPem: key.exportPem(),
    routes: (router) =>
      router.service(ca.IstioCertificateService, {
        createCertificate: async ({ csr }) => {
          const { spki } = await parseCsr(csr);
          const sign = async (uris: string[]) => [...(await authority.issue({ spki, uris })).chain];
          return { certChain: await answer({ authority, roots: authority.rootsPem, sign }) };
        },
      }),
  });
  const client = new CaClient({
    address: `https://localhost:${server.port}`,
    roots: { kind: "pem", pem: authority.rootsPem },
    token: { kind: "none" },
  });
  const end = async () => {
    client.close();
    await server.close();
  };
  return { client, [Symbol.asyncDispose]: end };
}

test("fetch_certificate: a node proxy gets a certificate of one of its pods", async () => {
  await using server = await startTestCaServer();
  const client = clientOf(server, { clusterId: "Kubernetes", headers: { "x-extra": "1" }, ttlSeconds: 3600 });
  const certificate = await client.fetch(IDENTITY, NEVER);
  assert.deepEqual(certificate.chain[0]?.uriSans, ["spiffe://cluster.local/ns/default/sa/productpage"]);
  assert.equal(certificate.rootsPem, server.authority.rootsPem);
  assert.ok(Math.abs(certificate.notAfter - Date.now() - 3_600_000) < 60_000);
  assert.equal(certificate.material().privateKey.length > 100, true);
  assert.equal(server.callers[0]?.clusterId, "Kubernetes");
  assert.equal(server.callers[0]?.token, "node-token");
});

test("intermediates come as elements of their own and are kept in the chain", async () => {
  await using server = await startTestCaServer({
    authority: await CertificateAuthority.selfSigned({ intermediate: true }),
  });
  const client = clientOf(server);
  const certificate = await client.fetch(IDENTITY, NEVER);
  assert.equal(certificate.chain.length, 2);
  assert.equal(certificate.roots.length, 1);
});

test("without impersonation the certificate is the caller's own", async () => {
  await using server = await startTestCaServer();
  const client = clientOf(server, { impersonate: false });
  const own = { trustDomain: "cluster.local", namespace: "istio-system", serviceAccount: "ztunnel" };
  assert.ok(await client.fetch(own, NEVER));
  await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "WRONG_IDENTITY", message: /did not find expected SAN/ });
});

test("whoever may not have a certificate learns nothing about why; the log says it", async () => {
  const lines: string[] = [];
  const write = (message: string, fields?: LogFields) => void lines.push(`${message} ${JSON.stringify(fields)}`);
  const log: Log = { ...silentLog, warn: write, error: write };
  await using server = await startTestCaServer({
    log,
    tokens: {
      "node-token": "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
      "app-token": "spiffe://cluster.local/ns/default/sa/app",
    },
  });
  const forbidden = { ...IDENTITY, namespace: "forbidden" };
  const unauthenticated = "signing gRPC error (Unauthenticated): request authenticate failure";
  const impersonation = "signing gRPC error (Unauthenticated): request impersonation authentication failure";
  const cases: [string, string, Identity, string, RegExp][] = [
    ["a wrong token", "wrong", IDENTITY, unauthenticated, /not one of the test's/],
    ["an empty token", "", IDENTITY, unauthenticated, /not one of the test's/],
    ["a pod that is not on the node", "node-token", forbidden, impersonation, /no pod of forbidden/],
    ["an application that asks for another identity", "app-token", IDENTITY, impersonation, /not a node proxy/],
  ];
  for (const [name, token, identity, message, reason] of cases) {
    lines.length = 0;
    const client = clientOf(server, { token: { kind: "literal", token } });
    await assert.rejects(client.fetch(identity, NEVER), { code: "CA_REQUEST_FAILED", message }, name);
    assert.match(lines.join("\n"), reason, name);
    assert.ok(!lines.join("\n").includes(token) || token === "", "the log does not show the token");
  }
});

test("the token file is read for each request; without it nothing is asked", async () => {
  await using server = await startTestCaServer();
  const path = join(directory, "token");
  const client = clientOf(server, { token: { kind: "file", path } });
  await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "NO_TOKEN", message: /ENOENT/ });
  writeFileSync(path, "\n");
  await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "NO_TOKEN", message: /it is empty/ });
  assert.equal(server.callers.length, 0);
  writeFileSync(path, "stale");
  await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "CA_REQUEST_FAILED" });
  writeFileSync(path, "node-token\n");
  assert.ok(await client.fetch(IDENTITY, NEVER));
});

test("a server that is not who it should be is not told anything", async () => {
  await using server = await startTestCaServer({ dnsNames: ["istiod.istio-system.svc"] });
  const stranger = await CertificateAuthority.selfSigned();
  const cases: [string, Partial<CaClientOptions>, RegExp][] = [
    [
      "another root",
      { roots: { kind: "pem", pem: stranger.rootsPem }, altHostname: "istiod.istio-system.svc" },
      /certificate/i,
    ],
    ["the system's roots", { roots: { kind: "system" }, altHostname: "istiod.istio-system.svc" }, /certificate/i],
    ["another name", {}, /altname|Hostname/i],
    ["another alternative name", { altHostname: "other.svc" }, /altname|Hostname/i],
  ];
  for (const [name, options, message] of cases) {
    const client = clientOf(server, options);
    await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "CA_REQUEST_FAILED", message }, name);
  }
  assert.equal(server.callers.length, 0);
  const client = clientOf(server, { altHostname: "istiod.istio-system.svc" });
  assert.ok(await client.fetch(IDENTITY, NEVER));
});

test("roots that are not there are an error, not an empty trust", async () => {
  await using server = await startTestCaServer();
  for (const roots of [
    { kind: "file", path: join(directory, "nowhere.pem") },
    { kind: "pem", pem: "not a certificate" },
  ] as const) {
    const client = clientOf(server, { roots });
    await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "NO_ROOTS" });
  }
});

test("an address without TLS is refused", async () => {
  await using server = await startTestCaServer();
  const client = clientOf(server, { address: server.address.replace("https", "http") });
  await assert.rejects(client.fetch(IDENTITY, NEVER), /is not an https address/);
});

test("an authority's answer is checked before it is used", async () => {
  const other = { ...IDENTITY, serviceAccount: "reviews" };
  const cases: [string, string, RegExp, Answer][] = [
    ["empty_chain", "EMPTY_CHAIN", /is empty/, async () => []],
    ["no root", "NO_ROOT", /^no root certificate present$/, ({ sign }) => sign([URI])],
    ["an empty root", "NO_ROOT", /^no root certificate present$/, async ({ sign }) => [...(await sign([URI])), ""]],
    [
      "wrong_identity",
      "WRONG_IDENTITY",
      /did not find expected SAN: .*productpage, got .*reviews/,
      async ({ sign, roots }) => [...(await sign([formatIdentity(other)])), roots],
    ],
    [
      "two identities",
      "WRONG_IDENTITY",
      /did not find expected SAN/,
      async ({ sign, roots }) => [...(await sign([URI, "spiffe://cluster.local/ns/kube-system/sa/admin"])), roots],
    ],
    [
      "no identity",
      "WRONG_IDENTITY",
      /did not find expected SAN/,
      async ({ sign, roots }) => [...(await sign([])), roots],
    ],
    [
      "another key",
      "WRONG_KEY",
      /does not belong to its private key/,
      async ({ authority }) => {
        const made = await authority.issueIdentity(IDENTITY);
        return [made.certificateChainPem, made.rootsPem];
      },
    ],
    ["rubbish", "BAD_CHAIN", /element 0 .* not a PEM certificate/, async () => ["rubbish", "rubbish"]],
  ];
  for (const [name, code, message, answer] of cases) {
    await using lying = await startLyingCa(answer);
    await assert.rejects(lying.client.fetch(IDENTITY, NEVER), { code, message }, name);
  }
});

test("only the first certificate of an element counts, and the last element may hold several roots", async () => {
  const extra = await CertificateAuthority.selfSigned();
  await using lying = await startLyingCa(async ({ sign, roots }) => {
    const [leaf = ""] = await sign([URI]);
    return [leaf + extra.rootsPem, roots + extra.rootsPem];
  });
  const certificate = await lying.client.fetch(IDENTITY, NEVER);
  assert.equal(certificate.chain.length, 1);
  assert.equal(certificate.roots.length, 2);
});

test("new roots in the file make the next request connect anew, a symbolic link swapped included", async () => {
  await using old = await startTestCaServer();
  const path = join(directory, "root-cert.pem");
  const put = (pem: string, name: string) => {
    writeFileSync(join(directory, name), pem);
    symlinkSync(name, `${path}.new`);
    renameSync(`${path}.new`, path);
  };
  put(old.authority.rootsPem, "first");
  const client = clientOf(old, { roots: { kind: "file", path }, rootDebounceMs: 20 });
  assert.ok(await client.fetch(IDENTITY, NEVER));
  const stranger = await CertificateAuthority.selfSigned();
  put(stranger.rootsPem, "second");
  let refused = false;
  for (let i = 0; i < 100 && !refused; i++) {
    await delay(20);
    refused = await client.fetch(IDENTITY, NEVER).then(
      () => false,
      () => true,
    );
  }
  assert.ok(refused, "the old channel, which the new roots do not vouch for, is still in use");
  put(old.authority.rootsPem, "third");
  let accepted = false;
  for (let i = 0; i < 100 && !accepted; i++) {
    await delay(20);
    accepted = await client.fetch(IDENTITY, NEVER).then(
      () => true,
      () => false,
    );
  }
  assert.ok(accepted);
});

test("an authority that accepts connections and says nothing is given up", async () => {
  const silent = createServer((socket) => socket.on("error", () => undefined));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const client = new CaClient({
    address: `https://127.0.0.1:${(silent.address() as AddressInfo).port}`,
    roots: { kind: "pem", pem: (await CertificateAuthority.selfSigned()).rootsPem },
    token: { kind: "none" },
    connectTimeoutMs: 50,
  });
  await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "CA_REQUEST_FAILED", message: /took longer than 50 ms/ });
  client.close();
  silent.close();
});

test("an address that nobody answers at is left soon: the next attempt may reach the control plane's new pod", async () => {
  await using deaf = await listenDeaf();
  const client = new CaClient({
    address: `https://127.0.0.1:${deaf.port}`,
    roots: { kind: "pem", pem: (await CertificateAuthority.selfSigned()).rootsPem },
    token: { kind: "none" },
    handshakeTimeoutMs: 50,
  });
  const message = /the TCP handshake with 127\.0\.0\.1:\d+ took longer than 50 ms/;
  await assert.rejects(client.fetch(IDENTITY, NEVER), { code: "CA_REQUEST_FAILED", message });
  client.close();
});

test("a client certificate is seen by its names only when it was verified", async () => {
  await using server = await startTestCaServer();
  const { connect } = await import("node:http2");
  const stranger = await CertificateAuthority.selfSigned();
  for (const [authority, trusted] of [
    [server.authority, true],
    [stranger, false],
  ] as const) {
    const certificate = await authority.issueIdentity(IDENTITY);
    const session = connect(server.address, {
      ca: server.authority.rootsPem,
      cert: certificate.certificateChainPem,
      key: certificate.exportPrivateKeyPem(),
    });
    const stream = session.request({
      ":method": "POST",
      ":path": "/istio.v1.auth.IstioCertificateService/CreateCertificate",
      "content-type": "application/grpc",
      authorization: "Bearer node-token",
    });
    stream.on("error", () => undefined);
    stream.end(Buffer.alloc(5));
    stream.resume();
    const seen = server.callers.length;
    await new Promise((resolve) => stream.once("close", resolve));
    session.destroy();
    assert.equal(server.callers.length, seen + 1);
    const names = server.callers.at(-1)?.peer.uris;
    assert.deepEqual(names, trusted ? ["spiffe://cluster.local/ns/default/sa/productpage"] : []);
  }
});

/** A port whose queue of connections is full: the kernel drops what comes. */
async function listenDeaf(): Promise<{ readonly port: number } & AsyncDisposable> {
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      // Accepts nothing any more.
      Atomics.wait(workerData, 0, 0);
    });`;
  const wake = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(code, { eval: true, workerData: wake });
  const [port] = (await once(worker, "message")) as [number];
  const queued: Socket[] = [];
  for (let full = false; !full; ) {
    const socket = createConnection({ port, host: "127.0.0.1" });
    queued.push(socket);
    full = await Promise.race([once(socket, "connect").then(() => false), delay(200).then(() => true)]);
  }
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of queued) socket.destroy();
      await worker.terminate();
    },
  };
}
