import assert from "node:assert/strict";
import type { Socket as Datagram } from "node:dgram";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { connectFrom, datagramIn, listenIn, until } from "@tulle/lab";
import dnsPacket, { type Packet } from "dns-packet";
import { type LabPod, MeshLab, POD_NAMESPACE } from "./mesh-lab.ts";

/** DNS as a pod sees it: whatever nameserver it asks, its node's ztunnel answers what the mesh knows and forwards the rest. */

/** What the pods' own resolv.conf would say; nobody is there. */
const NAMESERVER = "192.0.2.53";
const NAMESERVER_V6 = "2001:db8::53";
const UPSTREAM = "10.96.255.254";
const OUTSIDE = "198.51.100.7";
/** More than all attempts of ztunnel with its nameserver. */
const ANSWER_TIMEOUT_MS = 30_000;
/** Within ztunnel's patience with its nameserver. */
const SLOW_MS = 300;

let mesh: MeshLab;
let client: LabPod;
const servers: AsyncDisposable[] = [];
let upstreamSocket: Datagram;
/** Names that the upstream was asked for, in order. */
const upstream: string[] = [];

before(async () => {
  mesh = await MeshLab.create({
    nodes: ["a"],
    // The nameserver is this process, which may be busy.
    resolvConf: `nameserver ${UPSTREAM}\noptions timeout:5 attempts:2\n`,
    environment: { RUST_LOG: "info,dns=debug" },
  });
  assert.equal(mesh.lab.gateway.v4, UPSTREAM);
  const service = (name: string, vips: readonly string[], hostname = `${name}.${POD_NAMESPACE}.svc.cluster.local`) => ({
    name,
    namespace: POD_NAMESPACE,
    hostname,
    vips,
    ports: { 80: 8080 },
  });
  mesh.services = [
    service("web", ["/10.200.0.1", "/fd00:200::1"]),
    service("old", ["/10.200.0.2"]),
    service("headless", []),
    service("db", ["/10.200.0.3"], "db.example.com"),
  ];
  client = await mesh.pod("client", { node: "a" });
  const headless = { services: { [`${POD_NAMESPACE}/headless.${POD_NAMESPACE}.svc.cluster.local`]: { 80: 8080 } } };
  await mesh.pod("one", { node: "a", ...headless });
  await mesh.pod("two", { node: "a", ...headless });
  upstreamSocket = await datagramIn(mesh.lab.fabric.path, { ip: UPSTREAM, port: 53 });
  upstreamSocket.on("message", (message, from) => {
    const answer = answerUpstream(message);
    const send = () => answer !== undefined && upstreamSocket.send(answer, from.port, from.address);
    setTimeout(send, upstream.at(-1)?.startsWith("slow") ? SLOW_MS : 0);
  });
  const tcp = await listenIn(mesh.lab.fabric.path, { ip: UPSTREAM, port: 53 }, (socket) => {
    socket.on("data", (bytes: Buffer) => {
      const answer = answerUpstream(bytes.subarray(2));
      if (answer !== undefined)
        socket.write(Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 255]), answer]));
    });
  });
  servers.push(tcp);
  await mesh.reload();
});

after(async () => {
  upstreamSocket.close();
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

/** Knows outside.example, does not answer for silent.example, and denies the rest. */
function answerUpstream(message: Buffer): Buffer | undefined {
  const query = dnsPacket.decode(message);
  const [question] = query.questions ?? [];
  const name = question?.name ?? "";
  upstream.push(name);
  if (name === "silent.example") return undefined;
  const known = name.endsWith("outside.example") && question?.type === "A";
  return dnsPacket.encode({
    type: "response",
    id: query.id ?? 0,
    flags: dnsPacket.RECURSION_AVAILABLE | (known ? 0 : NXDOMAIN),
    questions: query.questions ?? [],
    answers: known ? [{ type: "A", name, ttl: 60, data: OUTSIDE }] : [],
  });
}

/** RFC 1035 §4.1.1: RCODE 3. */
const NXDOMAIN = 3;

type Answer = ReturnType<typeof dnsPacket.decode> & { readonly rcode?: string; readonly flag_aa?: boolean };
type RecordType = "A" | "AAAA" | "TXT";

function encodeQuestion(name: string, type: RecordType): { id: number; bytes: Buffer } {
  const id = 1 + Math.floor(Math.random() * 65_534);
  const packet: Packet = {
    type: "query",
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type, name, class: "IN" }],
  };
  return { id, bytes: dnsPacket.encode(packet) };
}

async function overUdp(name: string, type: RecordType = "A", server = NAMESERVER): Promise<Answer> {
  const v6 = server.includes(":");
  const socket = await datagramIn(client.host.namespace.path, { ip: v6 ? "::" : "0.0.0.0", port: 0 });
  try {
    const { id, bytes } = encodeQuestion(name, type);
    const answered = once(socket, "message", { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    socket.send(bytes, 53, server);
    const [message, from] = (await answered) as [Buffer, { address: string }];
    assert.equal(from.address, server, "the answer comes from whom the pod has asked");
    const packet = dnsPacket.decode(message);
    assert.equal(packet.id, id);
    return packet;
  } finally {
    socket.close();
  }
}

async function overTcp(name: string, type: RecordType = "A"): Promise<Answer> {
  const socket = await connectFrom(client.host.namespace.path, { ip: NAMESERVER, port: 53 });
  const { id, bytes } = encodeQuestion(name, type);
  socket.write(Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]));
  let received = Buffer.alloc(0);
  socket.on("data", (piece: Buffer) => {
    received = Buffer.concat([received, piece]);
  });
  await until(() => received.length >= 2 && received.length >= 2 + received.readUInt16BE(0), {
    what: "an answer",
    timeoutMs: ANSWER_TIMEOUT_MS,
  });
  socket.destroy();
  const packet = dnsPacket.decode(received.subarray(2));
  assert.equal(packet.id, id);
  return packet;
}

/** Addresses of an answer, sorted; names of CNAMEs with an arrow. */
function shown({ rcode, answers }: Answer): string {
  const records: string[] = (answers ?? []).map((answer) => {
    const data = "data" in answer ? String(answer.data) : "";
    if (answer.type === "CNAME") return `-> ${data}`;
    return answer.type === "A" || answer.type === "AAAA" ? data : answer.type;
  });
  return [rcode, ...records.sort()].join(" ");
}

const VIA = [
  ["UDP", overUdp],
  ["TCP", overTcp],
] as const;

for (const [transport, resolve] of VIA) {
  test(`over ${transport}, names of the mesh are answered by whichever nameserver a pod asks`, async () => {
    const { host: one } = mesh.pods.get("one") as LabPod;
    const { host: two } = mesh.pods.get("two") as LabPod;
    const cases: readonly [name: string, type: RecordType, expected: string][] = [
      ["web", "A", "NOERROR 10.200.0.1"],
      ["web.demo", "A", "NOERROR 10.200.0.1"],
      ["web.demo.svc", "A", "NOERROR 10.200.0.1"],
      ["WEB.demo.svc.cluster.local", "A", "NOERROR 10.200.0.1"],
      ["web.demo.svc.cluster.local", "AAAA", "NOERROR fd00:200::1"],
      ["old.demo.svc.cluster.local", "AAAA", "NOERROR"],
      ["headless.demo.svc.cluster.local", "A", `NOERROR ${[one.v4, two.v4].sort().join(" ")}`],
      ["db.example.com", "A", "NOERROR 10.200.0.3"],
      ["db.example.com.demo.svc.cluster.local", "A", "NOERROR -> db.example.com 10.200.0.3"],
    ];
    const asked = upstream.length;
    for (const [name, type, expected] of cases) {
      const answer = await resolve(name, type);
      assert.equal(shown(answer), expected, `${name} ${type}`);
      assert.equal(answer.flag_aa, true, `${name} is answered with authority`);
    }
    assert.equal(upstream.length, asked, "nothing of it was forwarded");
  });

  test(`over ${transport}, other names are forwarded to ztunnel's own nameserver, and what it says is relayed`, async () => {
    const name = `${transport.toLowerCase()}.outside.example`;
    const answer = await resolve(name);
    assert.equal(shown(answer), `NOERROR ${OUTSIDE}`);
    assert.notEqual(answer.flag_aa, true);
    assert.ok(upstream.includes(name));
    assert.equal(shown(await resolve(`${transport.toLowerCase()}.nowhere.example`)), "NXDOMAIN");
    // Only addresses are the mesh's own: other types are asked for outside, even for its names.
    assert.equal(shown(await resolve("web.demo.svc.cluster.local", "TXT")), "NXDOMAIN");
    // A second time from the cache.
    const asked = upstream.length;
    assert.equal(shown(await resolve(name)), `NOERROR ${OUTSIDE}`);
    assert.equal(upstream.length, asked);
  });
}

test("a nameserver with an IPv6 address is captured as well", async () => {
  assert.equal(shown(await overUdp("web", "AAAA", NAMESERVER_V6)), "NOERROR fd00:200::1");
});

test("a nameserver that does not answer becomes SERVFAIL, not silence", async () => {
  assert.equal(shown(await overUdp("silent.example")), "SERVFAIL");
  assert.equal(upstream.filter((name) => name === "silent.example").length, 2, "both attempts were made");
});

test("queries are counted and, when asked for, logged", async () => {
  const labels = { request_query_type: "a", request_protocol: "udp", source_canonical_service: "client" };
  assert.ok((await mesh.metric("a", "istio_dns_requests_total", labels)) >= 9);
  assert.ok((await mesh.metric("a", "istio_dns_requests_total", { ...labels, request_protocol: "tcp" })) >= 9);
  assert.ok((await mesh.metric("a", "istio_dns_upstream_requests_total", labels)) >= 3);
  assert.ok((await mesh.metric("a", "istio_dns_upstream_failures_total", labels)) >= 1);
  assert.ok((await mesh.metric("a", "istio_dns_upstream_request_duration_seconds_count", labels)) >= 1);
  await until(() => mesh.logLines("a", 'result="success"', 'src.workload="client"', 'query="A').length > 0, {
    what: "the log of an answer",
  });
});

test("a ztunnel that gives way to its successor answers what it was asked, and loses nothing", async () => {
  const old = await mesh.replace("a");
  // Each from a port of its own: the kernel gives some to the old one and some to the new one.
  const slow = Array.from({ length: 16 }, (_, i) => overUdp(`slow${i}.outside.example`));
  const load = { over: false };
  const askers = Array.from({ length: 8 }, async () => {
    const answers: string[] = [];
    while (!load.over) answers.push(shown(await overUdp("web")));
    return answers;
  });
  // A busy machine may make ztunnel ask twice.
  const asked = () => new Set(upstream.filter((name) => name.startsWith("slow"))).size;
  await until(() => asked() === slow.length, { what: "the slow ones" });
  old.signal("SIGTERM");
  const { code } = await old.ended;
  load.over = true;
  assert.deepEqual(new Set((await Promise.all(slow)).map(shown)), new Set([`NOERROR ${OUTSIDE}`]));
  const answers = (await Promise.all(askers)).flat();
  assert.deepEqual(new Set(answers), new Set(["NOERROR 10.200.0.1"]));
  assert.equal(code, 0);
  // More than the first one of each asker.
  assert.ok(answers.length > askers.length, `only ${answers.length} were asked meanwhile`);
});
