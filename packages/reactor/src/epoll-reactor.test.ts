import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { Worker } from "node:worker_threads";
import {
  currentNamespaceKey,
  NativeBuffer,
  NetNamespace,
  openDescriptorCount,
  openDescriptors,
  SystemError,
} from "@tulle/linux";
import type { SocketAddress } from "@tulle/base";
import { createTestNamespace, type TestNamespace } from "@tulle/testkit";
import type { Connection, ConnectionHandler, ConnectOptions, ListenOptions, SocketOptions } from "./contract.ts";
import { EpollReactor } from "./epoll-reactor.ts";

const MARK = 0x539;
const PATIENCE_MS = 10_000;
/** A foreign address that the namespace routes back to itself (spec: l4-ztunnel §1.6 does it by mark). */
const FOREIGN_V4 = "203.0.113.9";
const FOREIGN_V6 = "2001:db8:9::9";
const REDIRECTED_V4 = "198.51.100.200";
const REDIRECTED_V6 = "2001:db8:200::200";
const REDIRECT_PORT = 15001;

let inside: TestNamespace;
before(() => {
  inside = createTestNamespace();
  // Answers to a foreign address come back to this machine.
  inside.run("ip", "-4", "route", "add", "local", FOREIGN_V4, "dev", "lo");
  inside.run("ip", "-6", "route", "add", "local", FOREIGN_V6, "dev", "lo");
  inside.run("ip", "-4", "route", "add", "default", "dev", "nowhere");
  inside.run("ip", "-6", "address", "add", "2001:db8:77::1/64", "dev", "nowhere", "nodad");
  inside.run("ip", "-6", "route", "add", "default", "dev", "nowhere");
  inside.run("nft", "add table inet test");
  inside.run("nft", "add chain inet test output { type nat hook output priority -100 ; }");
  inside.run("nft", `add rule inet test output ip daddr ${REDIRECTED_V4} tcp dport 80 redirect to :${REDIRECT_PORT}`);
  inside.run("nft", `add rule inet test output ip6 daddr ${REDIRECTED_V6} tcp dport 80 redirect to :${REDIRECT_PORT}`);
});
after(() => {
  inside.close();
  assert.deepEqual(openDescriptors(), []);
});

/** One reactor, both ends of a connection on it. */
function connected(
  listen: Partial<ListenOptions>,
  connect: Partial<ConnectOptions>,
  check: (client: Connection, server: Connection, reactor: EpollReactor) => void,
): void {
  withReactor((reactor) => {
    let server: Connection | undefined;
    let result: number | undefined;
    const quiet: ConnectionHandler = { onConnected: () => {}, onReadable: () => {}, onWritable: () => {} };
    const common: SocketOptions = { namespace: inside.namespace };
    const listener = reactor.listen(
      { ...common, address: { ip: "127.0.0.1", port: 0 }, ...listen },
      {
        onAccept(connection) {
          connection.setHandler(quiet);
          server = connection;
        },
        onAcceptError: () => assert.fail("accept failed"),
      },
    );
    const address = connect.address ?? { ip: listener.address.ip, port: listener.address.port };
    const client = reactor.connect(
      { ...common, ...connect, address },
      { ...quiet, onConnected: (_, error) => (result = error) },
    );
    turnUntil(reactor, () => result !== undefined && (result < 0 || server !== undefined));
    assert.equal(result, 0);
    assert.ok(server !== undefined);
    check(client, server, reactor);
  });
}

function withReactor(run: (reactor: EpollReactor) => void): void {
  const before = openDescriptorCount();
  const reactor = new EpollReactor({ onFault: (error) => assert.fail(String(error)) });
  try {
    run(reactor);
    assert.equal(reactor.faults, 0);
  } finally {
    reactor.close();
  }
  assert.equal(openDescriptorCount(), before);
}

function turnUntil(reactor: EpollReactor, condition: () => boolean, patienceMs = PATIENCE_MS): void {
  const deadline = performance.now() + patienceMs;
  while (!condition()) {
    assert.ok(performance.now() < deadline, "waited in vain");
    reactor.turn(10);
  }
}

test("a socket of another namespace is there, and the thread is not", () => {
  const home = currentNamespaceKey();
  assert.notEqual(inside.namespace.key, home);
  connected({}, {}, (_, server) => {
    assert.equal(currentNamespaceKey(), home);
    const { port } = server.local;
    assert.match(inside.run("ss", "-Htln"), new RegExp(`127\\.0\\.0\\.1:${port}\\b`));
    withReactor((outside) => {
      let error: number | undefined;
      const handler = { onConnected: (_: Connection, e: number) => (error = e), onReadable() {}, onWritable() {} };
      outside.connect({ address: { ip: "127.0.0.1", port } }, handler);
      turnUntil(outside, () => error !== undefined);
      assert.equal(error, -111, "the port is not to be seen from the thread's own namespace");
    });
  });
});

test("a namespace that was closed is refused: listen throws, connect tells later", () => {
  const namespace = NetNamespace.open(`/var/run/netns/${inside.name}`);
  namespace.close();
  withReactor((reactor) => {
    const listen = () =>
      reactor.listen(
        { namespace, address: { ip: "127.0.0.1", port: 0 } },
        { onAccept: () => {}, onAcceptError: () => {} },
      );
    assert.throws(listen, (error) => error instanceof SystemError && error.code === "EBADF");
    let result: number | undefined;
    reactor.connect(
      { namespace, address: { ip: "127.0.0.1", port: 1 } },
      { onConnected: (_, error) => (result = error), onReadable() {}, onWritable() {} },
    );
    turnUntil(reactor, () => result !== undefined);
    assert.equal(result, -9);
  });
});

for (const [family, wildcard, destination] of [
  ["IPv4", "0.0.0.0", REDIRECTED_V4],
  ["IPv4 on an IPv6 socket", "::", REDIRECTED_V4],
  ["IPv6", "::", REDIRECTED_V6],
] as const) {
  test(`the original destination of a redirected connection is known: ${family}`, () => {
    const listen = { address: { ip: wildcard, port: REDIRECT_PORT }, reusePort: true };
    connected(listen, { address: { ip: destination, port: 80 } }, (client, server) => {
      assert.deepEqual(server.originalDestination(), { ip: destination, port: 80 });
      assert.deepEqual(client.peer, { ip: destination, port: 80 });
      assert.equal(server.local.port, REDIRECT_PORT);
      assert.equal(server.originalDestination(), server.originalDestination(), "it is asked for once");
    });
  });
}

test("the kernel sees the mark of listeners, of accepted and of outgoing connections", () => {
  connected({ mark: MARK }, { mark: MARK }, () => {
    const marked = inside.run("ss", "-Htane").match(/fwmark:0x539/g) ?? [];
    assert.equal(marked.length, 3, "listener, accepted and outgoing");
  });
});

test("accepted connections have the keep-alive of their listener", () => {
  const keepAlive = { idleSeconds: 180, intervalSeconds: 60, retries: 9, userTimeoutMs: 5000 };
  connected({ keepAlive }, {}, (_, server) => {
    const options = inside.run("ss", "-Htnoi", `sport = :${server.local.port}`);
    assert.match(options, /timer:\(keepalive,[23](\.\d+)?min/);
  });
});

for (const [family, listenIp, foreign] of [
  ["IPv4", "127.0.0.1", FOREIGN_V4],
  ["IPv6", "::1", FOREIGN_V6],
] as const) {
  test(`a connection may come from a foreign address: ${family}`, () => {
    connected({ address: { ip: listenIp, port: 0 } }, { source: foreign }, (client, server) => {
      assert.equal(server.peer.ip, foreign);
      assert.equal(client.local.ip, foreign);
    });
  });

  test(`it may ask for a port of it, and gets another one when the very connection exists: ${family}`, () => {
    withReactor((reactor) => {
      const { namespace } = inside;
      const seen: SocketAddress[] = [];
      const idle = { onConnected() {}, onReadable() {}, onWritable() {} };
      const onAccept = (connection: Connection) => {
        connection.setHandler(idle);
        seen.push(connection.peer);
      };
      const accepting = { onAccept, onAcceptError: () => {} };
      const listen = () => reactor.listen({ namespace, address: { ip: listenIp, port: 0 } }, accepting);
      const [first, second] = [listen(), listen()];
      const from = { namespace, source: foreign, sourcePort: 40_321 } as const;
      for (const { address } of [first, second, first]) reactor.connect({ ...from, address }, idle);
      reactor.connect({ ...from, sourcePort: 0, address: first.address }, idle);
      turnUntil(reactor, () => seen.length === 4);
      assert.deepEqual(new Set(seen.map(({ ip }) => ip)), new Set([foreign]));
      assert.equal(seen.filter(({ port }) => port === 40_321).length, 2, "once for each destination");
    });
  });

  test(`the destination as the source is connected without binding: ${family}`, () => {
    connected({ address: { ip: listenIp, port: 0 } }, { source: listenIp }, (_, server) => {
      assert.equal(server.peer.ip, listenIp);
    });
  });
}

test("a source that cannot be bound fails, or is left out, as asked", () => {
  connected({}, { source: FOREIGN_V6, sourceFallback: "without" }, (_, server) => {
    assert.equal(server.peer.ip, "127.0.0.1");
  });
  withReactor((reactor) => {
    let result: number | undefined;
    reactor.connect(
      { namespace: inside.namespace, address: { ip: "127.0.0.1", port: 1 }, source: FOREIGN_V6 },
      { onConnected: (_, error) => (result = error), onReadable() {}, onWritable() {} },
    );
    assert.equal(result, undefined, "never inside connect");
    turnUntil(reactor, () => result !== undefined);
    assert.equal(result, -97);
  });
});

test("a listener can be transparent and says so", () => {
  withReactor((reactor) => {
    const handler = { onAccept: () => {}, onAcceptError: () => {} };
    for (const ip of ["127.0.0.1", "::"]) {
      const address = { ip, port: 0 };
      assert.equal(reactor.listen({ address, transparent: "required" }, handler).transparent, true);
      assert.equal(reactor.listen({ address }, handler).transparent, false);
    }
  });
});

test("without privilege, what is required fails by name, and what is tried is gone without", () => {
  const script = `
    import(${JSON.stringify(import.meta.resolve("./epoll-reactor.ts"))}).then(({ EpollReactor }) => {
      const reactor = new EpollReactor();
      const handler = { onAccept() {}, onAcceptError() {} };
      const listen = (options) => {
        try {
          return reactor.listen({ address: { ip: "127.0.0.1", port: 0 }, ...options }, handler).transparent;
        } catch (error) {
          return error.message.replace(/:\\d+/, "");
        }
      };
      const { port } = reactor.listen({ address: { ip: "127.0.0.1", port: 0 } }, handler).address;
      const results = [listen({ transparent: "required" }), listen({ transparent: "try" }), listen({ mark: 1 })];
      const connect = (sourceFallback) => {
        const connection = { onReadable() {}, onWritable() {}, onConnected: (_, error) => results.push(error) };
        reactor.connect({ address: { ip: "127.0.0.1", port }, source: "203.0.113.9", sourcePort: 40321, sourceFallback }, connection);
        for (let i = 0; i < 100 && results.length < expected; i++) reactor.turn(10);
      };
      let expected = 4;
      connect("fail");
      expected = 5;
      connect("without");
      console.log(JSON.stringify(results));
      reactor.close();
    });`;
  const drop = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
  const child = spawnSync("setpriv", [...drop, process.execPath, "-e", script], { encoding: "utf8", timeout: 20_000 });
  assert.equal(child.status, 0, child.stderr);
  assert.deepEqual(JSON.parse(child.stdout), [
    "listen on 127.0.0.1: IP_TRANSPARENT: operation not permitted (EPERM)",
    false,
    "create a listener socket: SO_MARK: operation not permitted (EPERM)",
    -1,
    0,
  ]);
});

test("a timer that is set late in a turn is not early", () => {
  withReactor((reactor) => {
    reactor.turn(0);
    // Time passes without the reactor noticing.
    const until = performance.now() + 60;
    while (performance.now() < until);
    const start = performance.now();
    let fired = 0;
    reactor.after(40, () => {
      fired = performance.now();
    });
    turnUntil(reactor, () => fired > 0);
    assert.ok(fired - start >= 40, `fired after ${fired - start} ms`);
  });
});

test("another thread wakes a reactor that waits", async () => {
  const reactor = new EpollReactor();
  let woken = 0;
  reactor.onWake(() => woken++);
  const url = import.meta.resolve("@tulle/linux");
  const worker = new Worker(
    `const { workerData } = require("node:worker_threads");
     import(workerData.url).then(({ Waker }) => { const w = new Waker(workerData.fd); w.wake(); w.close(); });`,
    { eval: true, workerData: { url, fd: reactor.wakeDescriptor } },
  );
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  turnUntil(reactor, () => woken === 1);
  await ended;
  reactor.close();
});

test("twenty thousand connections, opened and closed in every way, leave no descriptor behind", () => {
  const TOTAL = 20_000;
  const AT_ONCE = 64;
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const before = descriptors();
  withReactor((reactor) => {
    const scratch = NativeBuffer.alloc(64);
    const echo: ConnectionHandler = {
      onConnected: () => {},
      onReadable(connection) {
        for (;;) {
          const count = connection.read(scratch, 0, 64);
          if (count === -11) return;
          if (count <= 0) return connection.close();
          connection.write(scratch, 0, count);
        }
      },
      onWritable: () => {},
    };
    const listener = reactor.listen(
      { namespace: inside.namespace, address: { ip: "127.0.0.1", port: 0 }, backlog: 256 },
      { onAccept: (connection) => connection.setHandler(echo), onAcceptError: (error) => assert.fail(`${error}`) },
    );
    let started = 0;
    let ended = 0;
    let highest = 0;
    const { ip, port } = listener.address;
    const start = () => {
      const way = started++ % 4;
      const end = (connection: Connection) => {
        if (way === 1) connection.reset();
        else connection.close();
        ended++;
      };
      const handler: ConnectionHandler = {
        onConnected(connection, error) {
          assert.equal(error, 0);
          if (way === 0) end(connection);
          else connection.write(scratch, 0, 1);
        },
        // RST of some ends keeps ports from running out in TIME_WAIT; the rest close in order.
        onReadable: (connection) => (way === 2 ? (connection.reset(), ended++) : end(connection)),
        onWritable: () => {},
      };
      const connection = reactor.connect({ namespace: inside.namespace, address: { ip, port } }, handler);
      if (way === 3 && started % 8 === 0) end(connection);
    };
    turnUntil(
      reactor,
      () => {
        for (let free = Math.min(TOTAL - started, AT_ONCE - (started - ended)); free > 0; free--) start();
        highest = Math.max(highest, reactor.open.connections);
        return ended === TOTAL;
      },
      12 * PATIENCE_MS,
    ); // The sheer number takes its time on a machine that does other things too.
    assert.ok(highest < AT_ONCE * 8, `${highest} connections were open at once`);
    turnUntil(reactor, () => reactor.open.connections === 0);
  });
  assert.equal(descriptors(), before);
});
