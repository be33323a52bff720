import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { PACKET_MARK } from "@tulle/base";
import { connectFrom, listenIn, until } from "@tulle/lab";
import { ForeignClient } from "./foreign-hbone.ts";
import { type LabPod, MeshLab } from "./mesh-lab.ts";

/** Who talks to whom, encrypted or not, as seen by applications, on the wire, in metrics and in logs. */

const PORT = 8080;
let mesh: MeshLab;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create();
  for (const [name, node, enrolled] of [
    ["client", "a", true],
    ["near", "a", true],
    ["far", "b", true],
    ["plain", "b", false],
  ] as const) {
    const pod = await mesh.pod(name, { node, enrolled });
    for (const ip of addresses(pod)) servers.push(await listenIn(pod.host.namespace.path, { ip, port: PORT }, echo));
  }
  await mesh.reload();
});

after(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
  await mesh.close();
});

/** Says who it sees, then repeats what it gets. */
function echo(socket: Socket): void {
  socket.write(`${socket.remoteAddress}\n`);
  socket.pipe(socket);
}

function addresses(pod: LabPod): string[] {
  return pod.host.v6 === undefined ? [pod.host.v4] : [pod.host.v4, pod.host.v6];
}

/** Sends a text and returns everything that came back until the server ended. */
async function talk(from: string, to: string, text: string, v6 = false): Promise<string> {
  const target = mesh.pods.get(to) as LabPod;
  const source = mesh.pods.get(from) as LabPod;
  const ip = v6 ? (target.host.v6 ?? "") : target.host.v4;
  const socket = await connectFrom(source.host.namespace.path, { ip, port: PORT });
  socket.end(text);
  let answer = "";
  for await (const chunk of socket) answer += (chunk as Buffer).toString();
  return answer;
}

for (const [to, where] of [
  ["near", "on the same node"],
  ["far", "on another node"],
] as const) {
  for (const v6 of [false, true]) {
    test(`two enrolled pods ${where} talk encrypted over IPv${v6 ? 6 : 4}, and the server sees the client's address`, async () => {
      const client = mesh.pods.get("client") as LabPod;
      const server = mesh.pods.get(to) as LabPod;
      const node = to === "near" ? "a" : "b";
      const labels = { destination_workload: to, connection_security_policy: "mutual_tls", response_flags: "-" };
      const opened = {
        ...labels,
        reporter: "destination",
        source_principal: "spiffe://cluster.local/ns/demo/sa/client",
      };
      const before = await mesh.metric(node, "istio_tcp_connections_opened_total", opened);
      await using capture = await mesh.lab.fabric.capture(mesh.lab.bridge, "tcp");

      assert.equal(
        await talk("client", to, "secret words", v6),
        `${v6 ? client.host.v6 : client.host.v4}\nsecret words`,
      );

      await until(async () => (await mesh.metric(node, "istio_tcp_connections_opened_total", opened)) === before + 1, {
        what: "the connection to be counted",
      });
      // What tcpdump has not read when it is told to end is lost.
      await capture.packet(({ payload }) => payload.length > 0, "the call on the wire");
      const frames = await capture.stop();
      const address = v6 ? server.host.v6 : server.host.v4;
      assert.ok(frames.length > 0, "the capture saw the connection");
      assert.ok(
        !frames.some(({ payload }) => Buffer.from(payload).includes("secret words")),
        "nothing of it in the clear",
      );
      await until(
        () =>
          mesh.logLines(
            "a",
            `dst.hbone_addr=${address === undefined ? "" : v6 ? `[${address}]` : address}:${PORT}`,
            'direction="outbound"',
            `dst.workload="${to}"`,
          ).length > 0,
        {
          what: "the client side's access log",
        },
      );
      await until(
        () =>
          mesh.logLines(
            node,
            'direction="inbound"',
            'src.identity="spiffe://cluster.local/ns/demo/sa/client"',
            `dst.workload="${to}"`,
          ).length > 0,
        {
          what: "the server side's access log",
        },
      );
    });
  }
}

test("a pod outside the mesh is reached in the clear, and counted as such", async () => {
  const labels = { reporter: "source", destination_workload: "plain", connection_security_policy: "unknown" };
  const before = await mesh.metric("a", "istio_tcp_connections_opened_total", labels);
  assert.match(await talk("client", "plain", "hello"), /\nhello$/);
  await until(async () => (await mesh.metric("a", "istio_tcp_connections_opened_total", labels)) === before + 1, {
    what: "the connection to be counted",
  });
});

test("a pod outside the mesh reaches an enrolled one in the clear, and its address is kept", async () => {
  const plain = mesh.pods.get("plain") as LabPod;
  assert.equal(await talk("plain", "far", "hello"), `${plain.host.v4}\nhello`);
  assert.equal(await talk("plain", "far", "hello", true), `${plain.host.v6}\nhello`);
  await until(
    () => mesh.logLines("b", 'src.workload="plain"', 'direction="inbound"', 'dst.workload="far"').length > 0,
    {
      what: "the access log",
    },
  );
});

test("a destination that nobody knows is passed through", async () => {
  const fabric = mesh.lab.gateway.v4;
  const server = await listenIn(mesh.lab.fabric.path, { ip: fabric, port: 9999 }, echo);
  const client = mesh.pods.get("client") as LabPod;
  const socket = await connectFrom(client.host.namespace.path, { ip: fabric, port: 9999 });
  socket.end("out");
  let answer = "";
  for await (const chunk of socket) answer += (chunk as Buffer).toString();
  assert.equal(answer, `${client.host.v4}\nout`);
  await server[Symbol.asyncDispose]();
});

test("megabytes survive both ways at once, byte by byte", async () => {
  const client = mesh.pods.get("client") as LabPod;
  const far = mesh.pods.get("far") as LabPod;
  const sent = Buffer.alloc(8 * 1024 * 1024, "0123456789abcdef-tulle-");
  const socket = await connectFrom(client.host.namespace.path, { ip: far.host.v4, port: PORT });
  const received: Buffer[] = [];
  const done = (async () => {
    for await (const chunk of socket) received.push(chunk as Buffer);
  })();
  socket.end(sent);
  await done;
  const all = Buffer.concat(received);
  const start = all.indexOf("\n") + 1;
  assert.equal(all.length - start, sent.length);
  assert.ok(all.subarray(start).equals(sent));
});

test("a refused connection behind the tunnel reaches the client as a reset, and both sides say why", async () => {
  const client = mesh.pods.get("client") as LabPod;
  const far = mesh.pods.get("far") as LabPod;
  await assert.rejects(async () => {
    const socket = await connectFrom(client.host.namespace.path, { ip: far.host.v4, port: 8081 });
    for await (const chunk of socket) assert.fail(`got ${(chunk as Buffer).length} bytes`);
  }, /ECONNRESET/);
  await until(() => mesh.logLines("b", "connection failed: connection refused").length > 0, {
    what: "the server side's log",
  });
  await until(() => mesh.logLines("a", "http status: 503").length > 0, { what: "the client side's log" });
});

test("an application that does not answer is given up after ten seconds, through the tunnel and outside of it", async () => {
  const client = mesh.pods.get("client") as LabPod;
  const [far, plain] = ["far", "plain"].map((name) => mesh.pods.get(name) as LabPod) as [LabPod, LabPod];
  const silent = "table inet silent { chain input { type filter hook input priority -300; tcp dport 8083 drop; }; }";
  for (const { host } of [far, plain]) await host.namespace.run("nft", [silent]);
  const start = performance.now();
  const took = await Promise.all(
    [far, plain].map(async ({ host }) => {
      await assert.rejects(async () => {
        const socket = await connectFrom(client.host.namespace.path, { ip: host.v4, port: 8083 });
        for await (const chunk of socket) assert.fail(`got ${(chunk as Buffer).length} bytes`);
      }, /ECONNRESET/);
      return performance.now() - start;
    }),
  );
  for (const ms of took) assert.ok(ms > 9_000 && ms < 20_000, `after ${Math.round(ms)} ms`);
  for (const node of ["a", "b"]) {
    const line = "connection failed: timed out";
    await until(() => mesh.logLines(node, line).length > 0, { what: `the log of node ${node}` });
  }
});

test("no tunnel comes to the application from a port with which its client has a connection already", async () => {
  const far = mesh.pods.get("far") as LabPod;
  const plain = mesh.pods.get("plain") as LabPod;
  const seen: number[] = [];
  const app = (socket: Socket) => {
    seen.push(socket.remotePort ?? 0);
    socket.on("error", () => {});
  };
  const to = { ip: far.host.v4, port: 8082 };
  await using _ = await listenIn(far.host.namespace.path, to, app);
  const certificate = await mesh.ca.authority.issueIdentity(mesh.identity("plain"));
  const { path: namespacePath } = plain.host.namespace;
  using client = await ForeignClient.connect({ namespacePath, ip: far.host.v4, certificate });
  const accepted = (count: number) =>
    until(() => seen.length === count && seen.at(-1), { what: `connection ${count}` });
  const tunnel = async () => {
    const before = seen.length;
    assert.equal(await client.connect(`${to.ip}:${to.port}`), 200);
    return accepted(before + 1);
  };
  const first = await tunnel();
  assert.ok(first < 32_768, `no kernel gives ${first} out to the client itself`);
  const source = { ip: plain.host.v4, port: first + 1 };
  const options = { source, foreignSource: true, mark: PACKET_MARK };
  const other = await connectFrom(far.host.namespace.path, to, options);
  assert.deepEqual([await accepted(2), await tunnel()], [first + 1, first + 2]);
  other.destroy();
});
