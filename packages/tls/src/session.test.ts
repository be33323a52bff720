import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, test } from "node:test";
import { MeshError, seededRandom } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import fc from "fast-check";
import { liveTlsObjects, TlsContext, type TlsSession } from "./index.ts";
import { feedBytes, move, readAll, shakeHands, takeCiphertext, writeBytes } from "./testing/link.ts";
import { spiffe, TestCa } from "./testing/test-ca.ts";

const AGAIN = -11;
const ca = TestCa.create();
const clientContext = TlsContext.create(ca.workload("client"));
const serverContext = TlsContext.create(ca.workload("server"));

after(() => {
  clientContext.close();
  serverContext.close();
  assert.deepEqual(liveTlsObjects(), { context: 0, session: 0, output: 0, backlog: 0 });
});

function newPair(): { client: TlsSession; server: TlsSession; [Symbol.dispose](): void } {
  const client = clientContext.client({ kind: "identities", uris: [spiffe("server")] });
  const server = serverContext.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  return {
    client,
    server,
    [Symbol.dispose]: () => {
      client.close();
      server.close();
    },
  };
}

function openPair(): ReturnType<typeof newPair> {
  const pair = newPair();
  shakeHands(pair.client, pair.server);
  assert.deepEqual([pair.client.state, pair.server.state], ["open", "open"]);
  return pair;
}

test("both sides know each other after the handshake", () => {
  using pair = openPair();
  assert.deepEqual(pair.client.peer?.identity, {
    trustDomain: "cluster.local",
    namespace: "default",
    serviceAccount: "server",
  });
  assert.equal(pair.server.peer?.identity.serviceAccount, "client");
  const left = (pair.server.peer?.notAfter ?? 0) - Date.now();
  assert.ok(left > 3_500_000 && left <= 3_600_000, `notAfter is an hour away, not ${left} ms`);
});

test("the handshake may arrive byte by byte", () => {
  using pair = newPair();
  const { client, server } = pair;
  for (let flight = 0; flight < 6; flight++) {
    client.handshake();
    server.handshake();
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      for (const byte of takeCiphertext(from)) {
        feedBytes(to, Buffer.from([byte]));
        to.handshake();
      }
    }
  }
  assert.deepEqual([client.state, server.state], ["open", "open"]);
});

test("large transfers both ways at once, in random chunks, arrive byte for byte", () => {
  using pair = openPair();
  const random = seededRandom(7);
  const upTo = (limit: number) => 1 + Math.floor(random() * limit);
  const size = 8 << 20;
  const directions = [
    { from: pair.client, to: pair.server, sent: randomBytes(size), wire: [] as Buffer[], got: [] as Buffer[], at: 0 },
    { from: pair.server, to: pair.client, sent: randomBytes(size), wire: [] as Buffer[], got: [] as Buffer[], at: 0 },
  ];
  const out = NativeBuffer.alloc(300_000);
  while (directions.some((way) => way.got.reduce((sum, part) => sum + part.length, 0) < size)) {
    for (const way of directions) {
      const count = Math.min(upTo(200_000), size - way.at);
      assert.ok(writeBytes(way.from, way.sent.subarray(way.at, way.at + count)));
      way.at += count;
      // Only a part is sent, as when a socket is full.
      const sending = Math.min(way.from.pending, upTo(250_000));
      const start = way.from.ciphertextOffset;
      if (sending > 0) {
        way.wire.push(Buffer.from(way.from.ciphertext.bytes.subarray(start, start + sending)));
        way.from.consume(sending);
      }
      let bytes = Buffer.concat(way.wire.splice(0));
      while (bytes.length > 0) {
        const chunk = bytes.subarray(0, upTo(200_000));
        bytes = bytes.subarray(chunk.length);
        feedBytes(way.to, chunk);
        // Sometimes the reader has no room for all of it.
        for (let reads = upTo(6); reads > 0; reads--) {
          const count = way.to.read(out, 0, upTo(out.length));
          if (count <= 0) break;
          way.got.push(Buffer.from(out.bytes.subarray(0, count)));
        }
      }
    }
  }
  for (const way of directions) {
    assert.ok(Buffer.concat(way.got).equals(way.sent));
    assert.equal(way.to.read(out, 0, 1), AGAIN);
    assert.equal(way.from.pending, 0);
  }
});

test("where the chunks of ciphertext end does not matter", () => {
  const plain = randomBytes(70_000);
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 30_000 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      (chunks, reads, greedy) => {
        using pair = openPair();
        assert.ok(writeBytes(pair.client, plain));
        const wire = takeCiphertext(pair.client);
        const got: Buffer[] = [];
        const out = NativeBuffer.alloc(40_000);
        let read = 0;
        const readSome = () => {
          const count = pair.server.read(out, 0, reads[read++ % reads.length] as number);
          if (count > 0) got.push(Buffer.from(out.bytes.subarray(0, count)));
          return count;
        };
        let at = 0;
        for (const chunk of [...chunks, wire.length]) {
          feedBytes(pair.server, wire.subarray(at, at + chunk));
          at += chunk;
          if (greedy) while (readSome() > 0);
          else readSome();
        }
        while (readSome() > 0);
        assert.ok(Buffer.concat(got).equals(plain));
      },
    ),
    { numRuns: 60 },
  );
});

test("memory that was fed may be overwritten at once", () => {
  using pair = openPair();
  const plain = randomBytes(200_000);
  writeBytes(pair.client, plain);
  const wire = NativeBuffer.from(takeCiphertext(pair.client));
  pair.server.feed(wire, 0, wire.length);
  wire.bytes.fill(0);
  assert.ok(readAll(pair.server).bytes.equals(plain));
});

test("a read gives AGAIN until more arrives, and 0 only after close_notify", () => {
  using pair = openPair();
  const out = NativeBuffer.alloc(100);
  assert.equal(pair.server.read(out, 0, 100), AGAIN);
  writeBytes(pair.client, Buffer.from("last words"));
  pair.client.shutdown();
  move(pair.client, pair.server);
  assert.equal(pair.server.read(out, 0, 100), 10);
  assert.equal(pair.server.read(out, 0, 100), 0);
  assert.equal(pair.server.read(out, 0, 100), 0);
  // The other direction is still open.
  assert.ok(writeBytes(pair.server, Buffer.from("answer")));
  move(pair.server, pair.client);
  assert.equal(readAll(pair.client).bytes.toString(), "answer");
});

test("a connection that is cut off never looks like its end", () => {
  using pair = openPair();
  writeBytes(pair.client, Buffer.alloc(50_000, 1));
  pair.client.shutdown();
  const wire = takeCiphertext(pair.client);
  feedBytes(pair.server, wire.subarray(0, wire.length - 1));
  assert.deepEqual(readAll(pair.server), { bytes: Buffer.alloc(50_000, 1), end: AGAIN });
});

test("after shutdown nothing more is written, and a second shutdown sends nothing", () => {
  using pair = openPair();
  pair.client.shutdown();
  const pending = pair.client.pending;
  pair.client.shutdown();
  assert.equal(pair.client.pending, pending);
  assert.equal(writeBytes(pair.client, Buffer.from("x")), false);
});

test("plaintext before a damaged record is handed out, then the read fails and the peer gets an alert", () => {
  using pair = openPair();
  writeBytes(pair.client, Buffer.from("intact"));
  const first = takeCiphertext(pair.client);
  writeBytes(pair.client, Buffer.from("damaged"));
  const second = takeCiphertext(pair.client);
  second[second.length - 1] = (second.at(-1) as number) ^ 1;
  feedBytes(pair.server, Buffer.concat([first, second]));
  const { bytes, end } = readAll(pair.server);
  assert.equal(bytes.toString(), "intact");
  assert.equal(end, -1);
  assert.equal(pair.server.state, "failed");
  assert.ok(pair.server.error instanceof MeshError);
  assert.equal(pair.server.error.code, "PROTOCOL_ERROR");
  assert.equal(pair.server.peer, undefined);
  assert.equal(writeBytes(pair.server, Buffer.from("x")), false);

  move(pair.server, pair.client);
  assert.equal(readAll(pair.client).end, -1);
  assert.match(pair.client.error?.message ?? "", /received fatal alert: bad_record_mac/);
});

test("an error of one session does not touch the next", () => {
  using broken = newPair();
  using fine = openPair();
  feedBytes(broken.server, Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  broken.server.handshake();
  assert.equal(broken.server.state, "failed");
  assert.match(broken.server.error?.message ?? "", /plain HTTP, not TLS/);
  assert.equal(readAll(fine.server).end, AGAIN);
  writeBytes(fine.client, Buffer.from("still here"));
  move(fine.client, fine.server);
  assert.equal(readAll(fine.server).bytes.toString(), "still here");
});

test("garbage instead of a handshake fails it, whatever it is", () => {
  const random = seededRandom(3);
  for (let round = 0; round < 200; round++) {
    using pair = newPair();
    const garbage = Buffer.from(
      Array.from({ length: 1 + Math.floor(random() * 300) }, () => Math.floor(random() * 256)),
    );
    // Often the beginning of a record, so that the parser gets further.
    if (round % 2 === 0) Buffer.from([22, 3, 1, 0, 100]).copy(garbage);
    feedBytes(pair.server, garbage);
    pair.server.handshake();
    assert.notEqual(pair.server.state, "open");
    if (pair.server.state === "failed") assert.ok(pair.server.error instanceof MeshError);
  }
});

test("data may come right behind the client's last flight, however much", () => {
  using pair = newPair();
  const { client, server } = pair;
  client.handshake();
  move(client, server);
  server.handshake();
  move(server, client);
  client.handshake();
  assert.equal(client.state, "open");
  const plain = randomBytes(300_000);
  writeBytes(client, plain);
  move(client, server);
  server.handshake();
  assert.equal(server.state, "open");
  assert.ok(readAll(server).bytes.equals(plain));
});

test("a peer that never finishes its handshake is given up after 128 KiB", () => {
  using pair = newPair();
  // A record of handshake type that announces a message of the greatest length.
  const record = Buffer.alloc(5 + 16_384);
  Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x40, 0]).copy(record);
  for (let i = 0; i < 20 && pair.server.state === "handshaking"; i++) feedBytes(pair.server, record);
  assert.equal(pair.server.state, "failed");
  assert.match(pair.server.error?.message ?? "", /more than 128 KiB/);
});
