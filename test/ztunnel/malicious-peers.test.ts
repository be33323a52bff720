import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { listenIn, until } from "@tulle/lab";
import { CertificateAuthority, type WorkloadCertificate } from "@tulle/pki";
import { ask } from "./call.ts";
import { connectOutcome, ForeignClient, foreignServer, foreignTls, type Outcome } from "./foreign-hbone.ts";
import { type LabPod, MeshLab, POD_NAMESPACE } from "./mesh-lab.ts";

/** Peers that speak HBONE, but should not get through: with the wrong names, to the wrong places, as the wrong party. */

const PORT = 8080;
const SERVICE = "server.demo.svc.cluster.local";

let mesh: MeshLab;
let server: LabPod;
let stranger: LabPod;
let certificate: WorkloadCertificate;
/** Connections that the application behind the proxy has seen. */
let applicationCalls = 0;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create({ nodes: ["a"] });
  mesh.services = [
    {
      name: "server",
      namespace: POD_NAMESPACE,
      hostname: SERVICE,
      vips: ["/10.200.0.1"],
      ports: { 80: PORT },
    },
  ];
  server = await mesh.pod("server", {
    node: "a",
    services: { [`${POD_NAMESPACE}/${SERVICE}`]: { 80: PORT } },
  });
  await mesh.pod("other", { node: "a" });
  await mesh.pod("client", { node: "a" });
  stranger = await mesh.pod("stranger", { node: "a", enrolled: false });
  // Captured by nothing, but the configuration takes it for the workload "claimed".
  await mesh.pod("claimed", { node: "b", enrolled: false, extra: { protocol: "HBONE" } });
  for (const ip of addresses(server)) servers.push(await listenIn(server.host.namespace.path, { ip, port: PORT }, app));
  await mesh.reload();
  certificate = await mesh.ca.authority.issueIdentity(mesh.identity("stranger"));
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

function app(socket: Socket): void {
  applicationCalls++;
  socket.pipe(socket);
}

function addresses(pod: LabPod): string[] {
  return [pod.host.v4, pod.host.v6 ?? ""];
}

function authorityOf(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function options(ip: string, presented: WorkloadCertificate | undefined = certificate) {
  return { namespacePath: stranger.host.namespace.path, ip, certificate: presented };
}

/** Through a tunnel and back, to the end. */
async function exchange(client: ForeignClient, authority: string): Promise<void> {
  const stream = await client.tunnel(authority);
  stream.end("hello from elsewhere");
  let answer = "";
  for await (const chunk of stream) answer += (chunk as Buffer).toString();
  assert.equal(answer, "hello from elsewhere");
}

test("a well-behaved foreign client gets a tunnel, bytes both ways, and a half-close", async () => {
  for (const ip of addresses(server)) {
    using client = await ForeignClient.connect(options(ip));
    await exchange(client, authorityOf(ip, PORT));
  }
});

interface Case {
  readonly what: string;
  readonly authority: (ip: string) => string;
  readonly expected: number;
  readonly log: string;
}

const CASES: readonly Case[] = [
  {
    what: "another pod's address",
    authority: (ip) => authorityOf((mesh.pods.get("other") as LabPod).host[ip.includes(":") ? "v6" : "v4"] ?? "", PORT),
    expected: 400,
    log: "ip mismatch: ",
  },
  { what: "an address outside", authority: () => "192.0.2.1:80", expected: 400, log: "ip mismatch: " },
  { what: "loopback", authority: () => "127.0.0.1:15000", expected: 400, log: "ip mismatch: " },
  {
    what: "a hostname that nobody knows",
    authority: () => "nobody.demo.svc.cluster.local:80",
    expected: 503,
    log: "no service or workload for hostname: nobody",
  },
  {
    what: "a port that the service does not have",
    authority: () => `${SERVICE}:81`,
    expected: 503,
    log: "found, but cannot resolve port",
  },
  { what: "no port", authority: (ip) => ip, expected: 400, log: "no valid authority pseudo header: " },
  { what: "garbage", authority: () => "..:http", expected: 400, log: "no valid authority pseudo header: ..:http" },
  ...[15_001, 15_006, 15_008].map((port) => ({
    what: `the proxy's own port ${port}`,
    authority: (ip: string) => authorityOf(ip, port),
    expected: 503,
    log: "attempted recursive call to ourselves",
  })),
];

for (const { what, authority, expected, log } of CASES) {
  test(`a CONNECT to ${what} is answered with ${expected}, and the log says why`, async () => {
    const before = applicationCalls;
    for (const ip of addresses(server)) {
      using client = await ForeignClient.connect(options(ip));
      assert.equal(await client.connect(authority(ip)), expected);
      await until(() => mesh.logLines("a", log, 'direction="inbound"').length > 0, { what: `the log line: ${log}` });
      // The connection itself is not to blame.
      await exchange(client, authorityOf(ip, PORT));
    }
    assert.equal(applicationCalls, before + addresses(server).length);
  });
}

test("a service's hostname leads to its port of this pod", async () => {
  using client = await ForeignClient.connect(options(server.host.v4));
  await exchange(client, `${SERVICE}:80`);
});

test("a CONNECT without an authority is answered with 400; one that no header may hold resets its stream", async () => {
  const before = applicationCalls;
  // HPACK: `:method: CONNECT`, then nothing, or `:authority: a b` (RFC 7541 §6.2.2, names from the static table).
  const method = [0x02, 7, ...Buffer.from("CONNECT")];
  // HEADERS with END_STREAM and `:status: 400` (static table, 12); RST_STREAM with PROTOCOL_ERROR (RFC 9113 §8.1.1).
  const badRequest = Buffer.from([0, 0, 1, 1, END_HEADERS | END_STREAM, 0, 0, 0, 1, 0x80 | 12]);
  const reset = Buffer.from([0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
  for (const [block, expected] of [
    [method, badRequest],
    [[...method, 0x01, 3, ...Buffer.from("a b")], reset],
  ] as const) {
    const socket = await foreignTls(options(server.host.v4));
    const answer: number[] = [];
    socket.on("data", (bytes: Buffer) => answer.push(...bytes));
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    socket.write(Buffer.from([0, 0, block.length, 1, END_HEADERS, 0, 0, 0, 1, ...block]));
    await until(() => Buffer.from(answer).includes(expected), { what: "the stream to be refused" });
    socket.destroy();
  }
  assert.equal(applicationCalls, before);
});

/** Flags of RFC 9113 §6.2. */
const END_STREAM = 1;
const END_HEADERS = 4;

test("any method but CONNECT is answered with 400", async () => {
  using client = await ForeignClient.connect(options(server.host.v4));
  for (const method of ["GET", "POST", "OPTIONS"]) {
    const headers = { ":method": method, ":path": "/", ":authority": authorityOf(server.host.v4, PORT) };
    assert.equal(await client.status(headers), 400);
  }
  await until(() => mesh.logLines("a", "expected method CONNECT, got OPTIONS").length > 0, { what: "the log" });
});

test("without a certificate, or with one that is not of this mesh, nothing reaches the application", async () => {
  const rogue = await CertificateAuthority.selfSigned();
  const brief = await mesh.ca.authority.issueIdentity(mesh.identity("client"), 1);
  await until(() => Date.now() > brief.notAfter, { what: "a certificate to expire" });
  const identity = mesh.identity("client");
  const foreign = await mesh.ca.authority.issueIdentity({ ...identity, trustDomain: "elsewhere.example" });
  const cases: readonly [what: string, presented: WorkloadCertificate | undefined, log: string][] = [
    ["no certificate", undefined, "tls error: "],
    ["a rogue CA", await rogue.issueIdentity(identity), "tls error: "],
    ["an expired certificate", brief, "tls error: "],
    ["a foreign trust domain", foreign, "expected trustdomain (cluster.local), got elsewhere.example"],
  ];
  for (const [what, presented, log] of cases) {
    const [calls, logged] = [applicationCalls, mesh.logLines("a", log).length];
    const outcome: Outcome = await connectOutcome(
      { namespacePath: stranger.host.namespace.path, ip: server.host.v4, certificate: presented },
      authorityOf(server.host.v4, PORT),
    );
    assert.equal(typeof outcome, "string", `${what} was answered with ${outcome}`);
    assert.notEqual(outcome, "no answer", what);
    await until(() => mesh.logLines("a", log).length > logged, { what: `the log to tell of ${what}` });
    assert.equal(applicationCalls, calls, what);
  }
});

test("a client that does not speak h2 is refused in the handshake", async () => {
  for (const alpn of [["http/1.1"], []]) {
    // A client of TLS 1.3 may be done before it hears the server's refusal.
    const socket = await foreignTls({ ...options(server.host.v4), alpn }).catch(() => undefined);
    if (socket !== undefined) await until(() => socket.destroyed, { what: "the server to close" });
  }
  await until(() => mesh.logLines("a", "does not offer ALPN h2").length === 2, { what: "the log to say so" });
});

test("a server that is not who the configuration says gets no byte, is not tried twice, and the log names both", async () => {
  const claimed = mesh.pods.get("claimed") as LabPod;
  const client = mesh.pods.get("client") as LabPod;
  const someoneElse = await mesh.ca.authority.issueIdentity(mesh.identity("other"));
  await using impostor = await foreignServer({
    namespacePath: claimed.host.namespace.path,
    ip: claimed.host.v4,
    certificate: someoneElse,
  });
  const retries = await mesh.metric("a", "tulle_connect_retries_total");
  assert.equal(await ask(client.host.namespace.path, { ip: claimed.host.v4, port: PORT }, "secret"), "ECONNRESET");
  const text =
    "identity verification error: peer did not present the expected SAN (spiffe://cluster.local/ns/demo/sa/claimed), got spiffe://cluster.local/ns/demo/sa/other";
  await until(() => mesh.logLines("a", text, 'direction="outbound"').length === 1, { what: "the log to name both" });
  assert.equal(impostor.connections, 1);
  assert.deepEqual(impostor.authorities, []);
  assert.equal(impostor.bytes, 0);
  assert.equal(await mesh.metric("a", "tulle_connect_retries_total"), retries);
});

test("a foreign server with the right identity is spoken to", async () => {
  const claimed = mesh.pods.get("claimed") as LabPod;
  const client = mesh.pods.get("client") as LabPod;
  await using proper = await foreignServer({
    namespacePath: claimed.host.namespace.path,
    ip: claimed.host.v4,
    certificate: await mesh.ca.authority.issueIdentity(mesh.identity("claimed")),
  });
  assert.equal(await ask(client.host.namespace.path, { ip: claimed.host.v4, port: PORT }, "secret"), "ok");
  assert.deepEqual(proper.authorities, [authorityOf(claimed.host.v4, PORT)]);
  assert.equal(proper.bytes, "secret".length);
});
