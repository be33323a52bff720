import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, test } from "node:test";
import { NativeBuffer } from "@tulle/linux";
import { liveTlsObjects, TlsContext, type TlsSession } from "./index.ts";
import { feedBytes, move, readAll, shakeHands, takeCiphertext, writeBytes } from "./testing/link.ts";
import { spiffe, TestCa } from "./testing/test-ca.ts";

const ca = TestCa.create();
const NOTHING = { context: 0, session: 0, output: 0, backlog: 0 };

after(() => assert.deepEqual(liveTlsObjects(), NOTHING));

function contexts(): { client: TlsContext; server: TlsContext; [Symbol.dispose](): void } {
  const client = TlsContext.create(ca.workload("client"));
  const server = TlsContext.create(ca.workload("server"));
  return {
    client,
    server,
    [Symbol.dispose]: () => {
      client.close();
      server.close();
    },
  };
}

function connect(client: TlsContext, server: TlsContext, serverName = "server"): [TlsSession, TlsSession] {
  const c = client.client({ kind: "identities", uris: [spiffe(serverName)] });
  const s = server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  shakeHands(c, s);
  assert.deepEqual([c.state, s.state], ["open", "open"]);
  return [c, s];
}

test("every use after close is refused, and closing again does nothing", () => {
  using both = contexts();
  const [client, server] = connect(both.client, both.server);
  client.close();
  client.close();
  const buffer = NativeBuffer.alloc(16);
  const uses: (() => unknown)[] = [
    () => client.handshake(),
    () => client.feed(buffer, 0, 16),
    () => client.read(buffer, 0, 16),
    () => client.write(buffer, 0, 16),
    () => client.shutdown(),
    () => client.consume(0),
  ];
  for (const use of uses) assert.throws(use, /closed TLS session/);
  assert.equal(client.state, "closed");
  assert.equal(client.pending, 0);
  server.close();
});

test("a closed context makes no sessions, and closing it again does nothing", () => {
  const context = TlsContext.create(ca.workload("client"));
  context.close();
  context.close();
  assert.throws(() => context.client({ kind: "identities", uris: [] }), /closed TLS context/);
  assert.throws(() => context.server({ kind: "trust-domain", trustDomain: "x" }), /closed TLS context/);
});

test("sessions outlive their context, and new ones get the new certificate", () => {
  using client = TlsContext.create(ca.workload("client"));
  const old = TlsContext.create(ca.workload("server"));
  const [oldClient, oldServer] = connect(client, old);
  const halfway = old.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  old.close();

  using renewed = TlsContext.create(ca.workload("renewed"));
  const [newClient, newServer] = connect(client, renewed, "renewed");
  assert.equal(newClient.peer?.identity.serviceAccount, "renewed");

  writeBytes(oldClient, Buffer.from("old goes on"));
  move(oldClient, oldServer);
  assert.equal(readAll(oldServer).bytes.toString(), "old goes on");
  const late = client.client({ kind: "identities", uris: [spiffe("server")] });
  shakeHands(late, halfway);
  assert.equal(late.state, "open");
  for (const session of [oldClient, oldServer, newClient, newServer, halfway, late]) session.close();
});

test("one thread serves several identities, each to whom it belongs", () => {
  const names = ["a", "b", "c"];
  const all = names.map((name) => TlsContext.create(ca.workload(name)));
  const client = TlsContext.create(ca.workload("client"));
  const sessions = names.flatMap((name, i) => connect(client, all[i] as TlsContext, name));
  assert.deepEqual(
    sessions.filter((_, i) => i % 2 === 0).map((session) => session.peer?.identity.serviceAccount),
    names,
  );
  for (const closing of [...sessions, ...all, client]) closing.close();
});

test("ciphertext of sessions that wait for their peers stays apart", () => {
  using both = contexts();
  const pairs = Array.from({ length: 10 }, () => connect(both.client, both.server));
  const plain = pairs.map((_, i) => Buffer.alloc(1000 + i, i));
  for (const [i, [client]] of pairs.entries()) {
    writeBytes(client, plain[i] as Buffer);
    // A part is sent, the rest waits while the others go on.
    const start = client.ciphertextOffset;
    feedBytes((pairs[i] as [TlsSession, TlsSession])[1], client.ciphertext.bytes.subarray(start, start + 100));
    client.consume(100);
  }
  assert.equal(liveTlsObjects().output, 10);
  for (const [i, [client, server]] of pairs.entries()) {
    move(client, server);
    assert.ok(readAll(server).bytes.equals(plain[i] as Buffer));
    client.close();
    server.close();
  }
  assert.equal(liveTlsObjects().output, 0);
});

test("a peer that reads slowly for ever costs no more memory than what waits", () => {
  using both = contexts();
  const [client, server] = connect(both.client, both.server);
  const plain = randomBytes(100_000);
  // There is always something pending, so that the buffer is never empty.
  writeBytes(client, plain);
  const received: Buffer[] = [];
  for (let round = 0; round < 200; round++) {
    writeBytes(client, plain);
    const bytes = takePart(client, client.pending - 50_000);
    feedBytes(server, bytes);
    received.push(readAll(server).bytes);
  }
  assert.ok(client.ciphertext.length < 1 << 20, `the buffer holds ${client.ciphertext.length} bytes`);
  feedBytes(server, takeCiphertext(client));
  received.push(readAll(server).bytes);
  const all = Buffer.concat(received);
  assert.equal(all.length, 201 * plain.length);
  for (let i = 0; i < 201; i++) assert.ok(all.subarray(i * plain.length, (i + 1) * plain.length).equals(plain));
  client.close();
  server.close();
});

test("what has no bound on the caller's side is refused", () => {
  using both = contexts();
  const [client, server] = connect(both.client, both.server);
  const large = NativeBuffer.alloc((4 << 20) + 1);
  assert.throws(() => client.write(large, 0, large.length), /send what is pending first/);
  const plain = NativeBuffer.alloc(4 << 20);
  for (let i = 0; i < 5 && client.pending <= 16 << 20; i++) client.write(plain, 0, plain.length);
  assert.throws(() => client.write(plain, 0, 1), /send what is pending first/);
  assert.throws(() => {
    for (let i = 0; i < 20; i++) feedBytes(server, takePart(client, 1 << 20));
  }, /stop reading from its socket/);
  client.close();
  server.close();
});

test("ranges outside a buffer are refused before OpenSSL sees them", () => {
  using both = contexts();
  const [client, server] = connect(both.client, both.server);
  const buffer = NativeBuffer.alloc(10);
  for (const [offset, length] of [
    [0, 11],
    [-1, 2],
    [10, 1],
    [0.5, 2],
    [Number.NaN, 1],
  ] as const) {
    assert.throws(() => client.feed(buffer, offset, length), RangeError);
    assert.throws(() => client.read(buffer, offset, length), RangeError);
    assert.throws(() => client.write(buffer, offset, length), RangeError);
  }
  assert.throws(() => client.read(buffer, 0, 0), RangeError);
  for (const length of [1, -1, 0.5, Number.NaN]) assert.throws(() => client.consume(length), RangeError);
  assert.throws(() => client.ciphertext, /no ciphertext/);
  client.close();
  server.close();
});

test("writing before the handshake is a mistake of the caller", () => {
  using both = contexts();
  const session = both.client.client({ kind: "identities", uris: [] });
  assert.throws(() => writeBytes(session, Buffer.from("x")), /before its handshake/);
  assert.equal(session.read(NativeBuffer.alloc(1), 0, 1), -11);
  session.close();
});

function takePart(session: TlsSession, length: number): Buffer {
  const start = session.ciphertextOffset;
  const bytes = Buffer.from(session.ciphertext.bytes.subarray(start, start + length));
  session.consume(length);
  return bytes;
}
