import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import {
  CommandError,
  connectFrom,
  datagramIn,
  Lab,
  type LabHost,
  LabProcess,
  leftovers,
  listenIn,
  portOf,
  run,
} from "./index.ts";
import { removeLeftovers } from "./owner.ts";
import { until } from "./until.ts";

describe("a lab", () => {
  let lab: Lab;
  let a: LabHost;
  let b: LabHost;

  before(async () => {
    lab = await Lab.create();
    a = await lab.host("a");
    b = await lab.host("b");
  });
  after(() => lab.close());

  for (const family of ["v4", "v6"] as const) {
    test(`its hosts reach each other over ${family}, from sockets of this process`, async () => {
      const ip = b[family] ?? assert.fail(`the machine has no IP${family}`);
      const peers: (string | undefined)[] = [];
      await using server = await listenIn(b.namespace.path, { ip, port: 0 }, (socket) => {
        peers.push(socket.remoteAddress);
        socket.pipe(socket);
      });
      const socket = await connectFrom(a.namespace.path, { ip, port: portOf(server) });
      socket.end("hello");
      const [echo] = await once(socket, "data");
      assert.equal(String(echo), "hello");
      assert.deepEqual(peers, [a[family]]);
      socket.destroy();
    });
  }

  test("a capture shows what passed, with payload and flags", async () => {
    await using capture = await a.namespace.capture(a.device, "tcp");
    await using server = await listenIn(b.namespace.path, { ip: b.v4, port: 0 }, (socket) => socket.end("bye"));
    const port = portOf(server);
    const socket = await connectFrom(a.namespace.path, { ip: b.v4, port });
    socket.on("data", () => {});
    socket.end("hello");
    await once(socket, "close");
    await capture.packet(({ source, flags }) => source.port === port && flags.fin, "the server's FIN");
    const packets = await capture.stop();
    assert.deepEqual(packets[0]?.destination, { ip: b.v4, port });
    assert.deepEqual(packets[0]?.flags, { syn: true, ack: false, fin: false, rst: false });
    const text = (from: string) =>
      packets
        .filter(({ source }) => source.ip === from)
        .map(({ payload }) => Buffer.from(payload).toString())
        .join("");
    assert.equal(text(a.v4), "hello");
    assert.equal(text(b.v4), "bye");
  });

  test("datagrams pass", async () => {
    const server = await datagramIn(b.namespace.path, { ip: b.v4, port: 0 });
    const client = await datagramIn(a.namespace.path, { ip: a.v4, port: 0 });
    const received = once(server, "message");
    client.send("hello", portOf(server), b.v4);
    const [message, sender] = await received;
    assert.equal(String(message), "hello");
    assert.equal(sender.address, a.v4);
    client.close();
    server.close();
  });

  test("a host that is taken off the network gets no answer until it is back", async () => {
    await using server = await listenIn(b.namespace.path, { ip: b.v4, port: 0 }, (socket) => socket.end());
    const to = { ip: b.v4, port: portOf(server) };
    await lab.connected(b, false);
    await assert.rejects(connectFrom(a.namespace.path, to, { timeoutMs: 200 }), { code: "ETIMEDOUT" });
    await lab.connected(b, true);
    (await connectFrom(a.namespace.path, to)).destroy();
  });

  test("a command runs in its namespace, and its complaint is in the error", async () => {
    assert.match(await a.namespace.run("ip", ["-4", "addr", "show", "eth0"]), new RegExp(a.v4));
    await assert.rejects(a.namespace.run("ip", ["link", "show", "nothing"]), (error: CommandError) => {
      assert.match(error.message, /^ip link show nothing: exit code 1: .*nothing.* does not exist/);
      return error.exitCode === 1;
    });
    await assert.rejects(run("sleep", ["60"], { timeoutMs: 50 }), /sleep 60: killed after 50 ms/);
    await assert.rejects(run("no-such-program", []), /no-such-program: .*ENOENT/);
  });

  test("a sysctl is the namespace's own", async () => {
    assert.equal(await a.namespace.sysctl("net.ipv4.tcp_migrate_req", 1), "1");
    assert.equal(await b.namespace.sysctl("net.ipv4.tcp_migrate_req"), "0");
  });
});

test("a process is stopped with its children, and what it wrote is kept", async () => {
  await using child = await LabProcess.start("bash", ["-c", "sleep 60 & echo child $!; wait"]);
  const [, pid] = await child.waitForOutput(/child (\d+)/);
  assert.ok(existsSync(`/proc/${pid}`));
  assert.equal((await child.stop()).signal, "SIGTERM");
  await until(() => !existsSync(`/proc/${pid}`), { what: "the grandchild to end" });
  await assert.rejects(
    LabProcess.start("setpriv", ["--no-such-option"]).then((one) => one.waitForOutput(/never/)),
    /ended before/,
  );
});

test("a closed lab leaves no namespace, and a crashed one is cleaned up by the next", async () => {
  const script = `
    import { Lab } from ${JSON.stringify(import.meta.resolve("./index.ts"))};
    const lab = await Lab.create();
    const host = await lab.host("crashed");
    await host.namespace.start("sleep", ["60"]);
    console.log(host.namespace.name);
    process.kill(process.pid, "SIGKILL");`;
  const crashed = await LabProcess.start(process.execPath, ["--input-type=module-typescript", "-e", script]);
  await crashed.ended;
  const name = /tulle-lab-\S+/.exec(crashed.output)?.[0] ?? assert.fail(crashed.output);
  // Another test file that makes a lab at the same time may have been first.
  assert.ok(leftovers().includes(name) || !existsSync(`/run/netns/${name}`), "the crash left its namespace");

  const lab = await Lab.create();
  assert.ok(!existsSync(`/run/netns/${name}`), "the next lab removed it");
  const own = lab.fabric.name;
  assert.ok(!leftovers().includes(own), "a lab that is in use is no leftover");
  await removeLeftovers();
  assert.ok(existsSync(`/run/netns/${own}`));
  await lab.close();
  await lab.close();
  assert.ok(!existsSync(`/run/netns/${own}`));
});
