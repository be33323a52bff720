import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { duplexPair, type Duplex } from "node:stream";
import { after, test } from "node:test";
import * as nodeTls from "node:tls";
import { MeshError } from "@tulle/base";
import { type IdentityMaterial, liveTlsObjects, TlsContext } from "./index.ts";
import { Attached } from "./testing/attach.ts";
import { copyOf, spiffe, TestCa } from "./testing/test-ca.ts";

const BOUNDED = { timeout: 20_000 };

const ca = TestCa.create();
const ours = ca.workload("ours");
const theirs = ca.workload("theirs");
const context = TlsContext.create(copyOf(ours));

after(() => {
  context.close();
  assert.deepEqual(liveTlsObjects(), { context: 0, session: 0, output: 0, backlog: 0 });
});

const keyPem = (material: IdentityMaterial) =>
  createPrivateKey({ key: Buffer.from(material.privateKey), format: "der", type: "pkcs8" }).export({
    type: "pkcs8",
    format: "pem",
  });
const right: nodeTls.SecureContextOptions & { ALPNProtocols: string[] } = {
  cert: theirs.certificateChainPem,
  key: keyPem(theirs),
  ca: ours.rootsPem,
  ALPNProtocols: ["h2"],
};

function ourServer(stream: Duplex): Attached {
  return new Attached(context.server({ kind: "trust-domain", trustDomain: "cluster.local" }), stream);
}

function theirClient(stream: Duplex, options: nodeTls.ConnectionOptions): nodeTls.TLSSocket {
  return nodeTls.connect({ ...options, socket: stream, checkServerIdentity: () => undefined });
}

function theirServer(stream: Duplex, options: nodeTls.TlsOptions): nodeTls.TLSSocket {
  const { ALPNProtocols, ...rest } = options;
  return new nodeTls.TLSSocket(stream, {
    isServer: true,
    requestCert: true,
    secureContext: nodeTls.createSecureContext(rest),
    ...(ALPNProtocols !== undefined && { ALPNProtocols }),
  });
}

test("a client of node:tls and our server talk both ways", BOUNDED, async () => {
  const [left, right_] = duplexPair();
  const server = ourServer(left);
  const client = theirClient(right_, right);
  await once(client, "secureConnect");
  assert.equal(client.authorized, true);
  assert.equal(client.alpnProtocol, "h2");
  assert.equal(client.getProtocol(), "TLSv1.3");
  assert.equal(client.getPeerX509Certificate()?.subjectAltName, `URI:${spiffe("ours")}`);
  const text = "x".repeat(200_000);
  client.write(text);
  await server.until((self) => self.received.length === text.length);
  assert.equal(server.session.peer?.identity.serviceAccount, "theirs");
  server.write("answer");
  const [answer] = (await once(client, "data")) as [Buffer];
  assert.equal(answer.toString(), "answer");
  client.end();
  await server.until((self) => self.end === 0);
  server.close();
  client.destroy();
});

test("our client and a server of node:tls talk both ways, and its session tickets do no harm", BOUNDED, async () => {
  const [left, right_] = duplexPair();
  const server = theirServer(right_, right);
  const client = new Attached(context.client({ kind: "identities", uris: [spiffe("theirs")] }), left);
  server.on("data", (chunk: Buffer) => server.write(chunk));
  await client.until((self) => self.session.state === "open");
  client.write("echo");
  await client.until((self) => self.received.toString() === "echo");
  client.shutdown();
  await once(server, "end");
  client.close();
  server.destroy();
});

const refusedClients: readonly {
  readonly name: string;
  readonly options: nodeTls.ConnectionOptions;
  readonly code: string;
  readonly alert: RegExp;
}[] = [
  {
    name: "without ALPN",
    options: withoutAlpn(right),
    code: "NO_ALPN",
    alert: /no application protocol/i,
  },
  {
    name: "that speaks only HTTP/1.1",
    options: { ...right, ALPNProtocols: ["http/1.1"] },
    code: "NO_ALPN",
    alert: /no application protocol/i,
  },
  {
    name: "of TLS 1.2",
    options: { ...right, maxVersion: "TLSv1.2" },
    code: "UNSUPPORTED_TLS",
    alert: /protocol version/i,
  },
  {
    name: "of TLS 1.2 without ALPN",
    options: { ...withoutAlpn(right), maxVersion: "TLSv1.2" },
    code: "UNSUPPORTED_TLS",
    alert: /protocol version/i,
  },
  {
    name: "without a certificate",
    options: { ca: ours.rootsPem, ALPNProtocols: ["h2"] },
    code: "NO_PEER_CERTIFICATE",
    alert: /certificate required/i,
  },
  {
    name: "with only ChaCha20",
    options: { ...right, minVersion: "TLSv1.3", ciphers: "TLS_CHACHA20_POLY1305_SHA256" },
    code: "UNSUPPORTED_TLS",
    alert: /handshake failure/i,
  },
];

for (const { name, options, code, alert } of refusedClients) {
  test(`a client ${name} is refused, and told so`, BOUNDED, async () => {
    const [left, right_] = duplexPair();
    const server = ourServer(left);
    const client = theirClient(right_, options);
    const [error] = (await once(client, "error")) as [Error];
    assert.match(error.message, alert);
    assert.equal(server.session.state, "failed");
    assert.ok(server.session.error instanceof MeshError);
    assert.equal(server.session.error.code, code, server.session.error.message);
    assert.equal(server.session.error.side, "downstream");
    server.close();
    client.destroy();
  });
}

test("a server that does not select h2 is refused by our client", BOUNDED, async () => {
  const [left, right_] = duplexPair();
  const server = theirServer(right_, withoutAlpn(right));
  server.on("error", () => server.destroy());
  const client = new Attached(context.client({ kind: "identities", uris: [spiffe("theirs")] }), left);
  await client.until((self) => self.session.state === "failed");
  assert.equal((client.session.error as MeshError).code, "NO_ALPN");
  assert.equal((client.session.error as MeshError).side, "upstream");
  client.close();
  server.destroy();
});

test("a server of TLS 1.2 is refused by our client", BOUNDED, async () => {
  const [left, right_] = duplexPair();
  const server = theirServer(right_, { ...right, maxVersion: "TLSv1.2" });
  server.on("error", () => server.destroy());
  const client = new Attached(context.client({ kind: "identities", uris: [spiffe("theirs")] }), left);
  await client.until((self) => self.session.state === "failed");
  assert.match(client.session.error?.message ?? "", /protocol_version|nothing that is accepted/);
  client.close();
  server.destroy();
});

function withoutAlpn<T extends { readonly ALPNProtocols?: unknown }>(options: T): Omit<T, "ALPNProtocols"> {
  const { ALPNProtocols: _, ...rest } = options;
  return rest;
}
