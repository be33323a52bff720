import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { TlsContext } from "./index.ts";
import { move, readAll, shakeHands, writeBytes } from "./testing/link.ts";
import { spiffe, TestCa } from "./testing/test-ca.ts";

test("a long connection changes its keys in time, and the peer follows", () => {
  const ca = TestCa.create();
  using context = TlsContext.create(ca.workload("server"));
  const server = context.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  using impatient = TlsContext.create(ca.workload("client"), { recordsPerKey: 4 });
  const client = impatient.client({ kind: "identities", uris: [spiffe("server")] });
  shakeHands(client, server);
  assert.equal(client.state, "open");
  const overheads = new Set<number>();
  for (let i = 0; i < 20; i++) {
    const plain = randomBytes(20_000);
    assert.ok(writeBytes(client, plain));
    overheads.add(client.pending - plain.length);
    move(client, server);
    assert.ok(readAll(server).bytes.equals(plain));
  }
  // Two records of 22 bytes overhead, and now and then a KeyUpdate (22 + 5 bytes) before them.
  assert.deepEqual(
    [...overheads].toSorted((a, b) => a - b),
    [44, 71],
  );
  client.close();
  server.close();
});
