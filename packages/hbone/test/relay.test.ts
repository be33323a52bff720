import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MeshError } from "@tulle/base";
import fc from "fast-check";
import type { App } from "./app.ts";
import { Mesh } from "./mesh.ts";

const ECONNRESET = -104;
const POLICY = new MeshError("connection closed due to policy change", { code: "POLICY_CHANGED", side: "downstream" });

/** Nothing may be left but the pooled HBONE connection itself, whose timers are its liveness and the pool's sweeper. */
function assertOver(mesh: Mesh, plain: boolean): void {
  const pooled = plain ? 0 : 1;
  assert.deepEqual(mesh.leftovers, {
    outboundConnections: pooled,
    inboundConnections: pooled,
    outboundTimers: plain ? 0 : 2,
    inboundTimers: pooled,
    leased: 0,
    faults: 0,
  });
}

const isReset = (app: App) => app.error === ECONNRESET;

for (const plain of [false, true]) {
  describe(plain ? "a plaintext relay" : "a relay through a tunnel", () => {
    const both = (mesh: Mesh) => mesh.outboundEnds.length === 1 && (plain || mesh.inboundEnds.length === 1);
    const errors = (mesh: Mesh) => [...mesh.outboundEnds, ...mesh.inboundEnds].map((end) => end.error?.message);

    test("the client ends first: the server still answers, then both are closed", () => {
      const mesh = new Mesh({ plain });
      const { client, server } = mesh.pair();
      client.send("question");
      client.end();
      mesh.until("the server has seen the end", () => server.eof);
      assert.equal(server.received, "question");
      server.send("a long answer");
      server.end();
      mesh.until("the client has seen the end", () => client.eof && both(mesh));
      assert.equal(client.received, "a long answer");
      assert.deepEqual(errors(mesh).filter(Boolean), []);
      assert.deepEqual([mesh.outboundRelays[0]?.sent, mesh.outboundRelays[0]?.received], [8, 13]);
      mesh.pass(2000);
      assertOver(mesh, plain);
    });

    test("the server ends first: the client still sends, then both are closed", () => {
      const mesh = new Mesh({ plain });
      const { client, server } = mesh.pair();
      server.send("banner");
      server.end();
      mesh.until("the client has seen the end", () => client.eof);
      client.send("late words");
      client.end();
      mesh.until("the server has seen the end", () => server.eof && both(mesh));
      assert.deepEqual([client.received, server.received], ["banner", "late words"]);
      mesh.pass(2000);
      assertOver(mesh, plain);
    });

    for (const who of ["client", "server"] as const) {
      test(`the ${who} resets: the other side is reset, and that is a normal end`, () => {
        const mesh = new Mesh({ plain });
        const pair = mesh.pair();
        const other = who === "client" ? pair.server : pair.client;
        pair[who].reset();
        mesh.until("the reset has come through", () => isReset(other) && both(mesh));
        assert.deepEqual(errors(mesh).filter(Boolean), []);
        mesh.pass(2000);
        assertOver(mesh, plain);
      });

      test(`the ${who} resets after it has ended its side: the other side is reset, though nobody sends anything`, () => {
        const mesh = new Mesh({ plain });
        const pair = mesh.pair();
        const other = who === "client" ? pair.server : pair.client;
        pair[who].end();
        mesh.until("the end has come through", () => other.eof);
        pair[who].reset();
        mesh.until("the reset has come through", () => isReset(other) && both(mesh));
        mesh.pass(2000);
        assertOver(mesh, plain);
      });
    }

    test("abort cuts both sides with a reset and reports its error", () => {
      const mesh = new Mesh({ plain });
      const { client, server } = mesh.pair();
      mesh.outboundRelays[0]!.abort(POLICY);
      mesh.outboundRelays[0]!.abort(POLICY);
      mesh.until("both sides are reset", () => isReset(client) && isReset(server) && both(mesh));
      assert.equal(mesh.outboundEnds.length, 1);
      assert.equal(mesh.outboundEnds[0]?.error, POLICY);
      mesh.pass(2000);
      assertOver(mesh, plain);
    });

    test("whatever the network does to reads and writes, bytes arrive once, in order, and so do the ends", () => {
      fc.assert(
        fc.property(
          fc.integer(),
          fc.integer({ min: 1, max: 200_000 }),
          fc.integer({ min: 1, max: 200_000 }),
          fc.integer({ min: 100, max: 70_000 }),
          (seed, up, down, maxSegment) => {
            const mesh = new Mesh({
              plain,
              seed,
              faults: { shortReads: 0.3, shortWrites: 0.3, maxSegment, capacity: 60_000 },
            });
            const { client, server } = mesh.pair();
            const pattern = (length: number) =>
              Buffer.from(Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0x7f));
            client.send(pattern(up));
            client.end();
            server.send(pattern(down));
            server.end();
            mesh.until("everything has arrived", () => client.eof && server.eof && both(mesh));
            assert.ok(client.received === pattern(down).toString("latin1"));
            assert.ok(server.received === pattern(up).toString("latin1"));
            assert.deepEqual(errors(mesh).filter(Boolean), []);
            mesh.pass(2000);
            assertOver(mesh, plain);
          },
        ),
        { numRuns: 12 },
      );
    });

    test("a receiver that does not read stops the sender, and costs bounded memory", () => {
      const mesh = new Mesh({ plain });
      const { client, server } = mesh.pair();
      server.countOnly = true;
      server.stopReading();
      client.send(Buffer.alloc(10_000_000));
      mesh.pass(1000);
      assert.equal(client.allSent, false);
      const held = mesh.outboundMemory.leased + mesh.inboundMemory.leased;
      assert.ok(held <= 5 * 1_048_576, `${held}`);
      server.startReading();
      client.end();
      mesh.until("everything has arrived", () => server.eof);
      assert.equal(server.bytes, 10_000_000);
      assert.equal(mesh.outboundMemory.leased + mesh.inboundMemory.leased, 0);
    });

    test("what may not be held ends the relay with an error, and the budget gets everything back", () => {
      let taken = 0;
      const budget = {
        tryTake(bytes: number) {
          if (taken + bytes > 32_768) return false;
          taken += bytes;
          return true;
        },
        give(bytes: number) {
          taken -= bytes;
        },
      };
      const mesh = new Mesh({ plain, budget });
      const { client, server } = mesh.pair();
      server.stopReading();
      client.send(Buffer.alloc(2_000_000));
      mesh.until("the relay was cut", () => both(mesh));
      assert.ok([...mesh.outboundEnds, ...mesh.inboundEnds].some((end) => end.error?.code === "LIMIT_REACHED"));
      assert.equal(taken, 0);
    });
  });
}

describe("a relay whose HBONE connection is lost", () => {
  test("both applications are reset and the error says why", () => {
    const mesh = new Mesh();
    const { client, server } = mesh.pair();
    mesh.network.vanish(mesh.inboundHost);
    const started = mesh.network.now;
    mesh.until("the outbound proxy has noticed", () => isReset(client));
    assert.ok(mesh.network.now - started <= 20_000, "within 20 s");
    assert.match(mesh.outboundEnds[0]?.error?.message ?? "", /^io error: .*PING/);
    assert.equal(server.error, undefined);
  });

  test("closing a server connection resets its tunnels with the given error", () => {
    const mesh = new Mesh();
    const { client, server } = mesh.pair();
    [...mesh.servers.keys()][0]!.close(POLICY);
    mesh.until("both are reset", () => isReset(client) && isReset(server));
    assert.equal(mesh.inboundEnds[0]?.error, POLICY);
    assert.deepEqual([...mesh.servers.values()], [POLICY]);
    mesh.pass(3000);
    assert.equal(mesh.leftovers.inboundConnections, 0);
  });

  test("draining a server lets its tunnels go on, and the next tunnel takes another connection", () => {
    const mesh = new Mesh();
    const first = mesh.pair();
    [...mesh.servers.keys()][0]!.drain();
    mesh.pass(100);
    const second = mesh.pair();
    assert.equal(mesh.servers.size, 2);
    first.client.send("still here");
    second.client.send("here too");
    mesh.until("both arrive", () => first.server.received !== "" && second.server.received !== "");
    first.client.reset();
    mesh.until("the drained connection has ended", () => [...mesh.servers.values()][0] === undefined);
    assert.equal(isReset(second.client), false);
  });
});
