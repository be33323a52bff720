import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connectFrom, listenIn } from "@tulle/lab";
import { echo } from "./call.ts";
import { type LabPod, MeshLab } from "./mesh-lab.ts";

/** Calls to the proxy's own ports, from inside and outside the mesh (spec: l4-ztunnel §12.3): none leads anywhere. */

const PORTS = [15_001, 15_006, 15_008, 15_080, 15_000, 15_020, 15_021] as const;
const APP_PORT = 8080;

/** R: connects, then ends without an answer. C: does not connect. H: an HTTP server that wants nothing of this. */
type Expected = Readonly<Record<(typeof PORTS)[number], "R" | "C" | "H">>;
const ALL_RESET: Expected = {
  15_001: "R",
  15_006: "R",
  15_008: "R",
  15_080: "R",
  15_000: "R",
  15_020: "R",
  15_021: "R",
};
const ON_ITSELF: Expected = { ...ALL_RESET, 15_080: "C", 15_000: "C", 15_020: "C", 15_021: "C" };

interface Case {
  readonly from: "captured" | "uncaptured";
  readonly to: "the node" | "a captured pod" | "itself" | "its loopback";
  readonly expected: Expected;
}

const CASES: readonly Case[] = [
  { from: "captured", to: "the node", expected: { ...ALL_RESET, 15_020: "H", 15_021: "H" } },
  { from: "captured", to: "itself", expected: ON_ITSELF },
  { from: "captured", to: "its loopback", expected: ON_ITSELF },
  {
    from: "uncaptured",
    to: "the node",
    expected: { 15_001: "C", 15_006: "C", 15_008: "R", 15_080: "C", 15_000: "C", 15_020: "H", 15_021: "H" },
  },
  { from: "uncaptured", to: "a captured pod", expected: ALL_RESET },
  { from: "captured", to: "a captured pod", expected: ALL_RESET },
];

let mesh: MeshLab;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create({
    nodes: ["a"],
    // ztunnel's own pod: its HBONE listener is on the node's 15008.
    environment: { POD_NAME: "ztunnel", POD_NAMESPACE: "istio-system", SERVICE_ACCOUNT: "ztunnel" },
  });
  for (const [name, enrolled] of [
    ["captured", true],
    ["server", true],
    ["uncaptured", false],
  ] as const) {
    const pod = await mesh.pod(name, { node: "a", enrolled });
    for (const ip of [pod.host.v4, pod.host.v6 ?? ""]) {
      servers.push(await listenIn(pod.host.namespace.path, { ip, port: APP_PORT }, echo));
    }
  }
  const { v4, v6 } = mesh.node("a").host;
  mesh.moreWorkloads = [
    {
      uid: "Kubernetes//Pod/istio-system/ztunnel",
      name: "ztunnel",
      namespace: "istio-system",
      serviceAccount: "ztunnel",
      workloadIps: v6 === undefined ? [v4] : [v4, v6],
      protocol: "TCP",
      node: "a",
      services: {},
    },
  ];
  await mesh.reload();
});

after(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
  await mesh.close();
});

function addressOf({ to, from }: Case, v6: boolean): string {
  const address = (pod: string) => (mesh.pods.get(pod) as LabPod).host[v6 ? "v6" : "v4"] ?? "";
  switch (to) {
    case "the node":
      return mesh.node("a").host[v6 ? "v6" : "v4"] ?? "";
    case "a captured pod":
      return address("server");
    case "itself":
      return address(from);
    case "its loopback":
      return v6 ? "::1" : "127.0.0.1";
    default:
      return to satisfies never;
  }
}

/** Speaks like an HTTP/2 client with prior knowledge: neither our ports nor an HTTP/1.1 server can make sense of it. */
async function attempt(namespacePath: string, ip: string, port: number): Promise<string> {
  let socket: Awaited<ReturnType<typeof connectFrom>>;
  try {
    socket = await connectFrom(namespacePath, { ip, port });
  } catch (error) {
    // Refused or without an answer; a reset means that it had been accepted, too fast for Node to say so.
    return (error as NodeJS.ErrnoException).code === "ECONNRESET" ? "R" : "C";
  }
  let answer = "";
  socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  try {
    for await (const chunk of socket) answer += (chunk as Buffer).toString("latin1");
  } catch {
    // Reset: what came before it counts.
  }
  socket.destroy();
  if (answer.startsWith("HTTP/1.1 400 ")) return "H";
  return answer === "" || answer.charCodeAt(0) === TLS_ALERT ? "R" : `answered ${JSON.stringify(answer.slice(0, 80))}`;
}

/** RFC 8446 §5.1: content type of an alert. */
const TLS_ALERT = 21;

for (const one of CASES) {
  for (const v6 of [false, true]) {
    test(`over IPv${v6 ? 6 : 4}, a ${one.from} pod that calls the proxy's ports of ${one.to} gets nowhere`, async () => {
      const namespacePath = (mesh.pods.get(one.from) as LabPod).host.namespace.path;
      const ip = addressOf(one, v6);
      const outcomes = await Promise.all(PORTS.map(async (port) => [port, await attempt(namespacePath, ip, port)]));
      assert.deepEqual(Object.fromEntries(outcomes), one.expected);
    });
  }
}

test("none of these calls went round in circles or left anything behind, and pods still talk", async () => {
  const captured = mesh.pods.get("captured") as LabPod;
  const server = mesh.pods.get("server") as LabPod;
  const outbound = await mesh.metric("a", "istio_tcp_connections_opened_total", { reporter: "source" });
  // Ports × cases × families, twice over for those that go on into a tunnel.
  assert.ok(outbound <= PORTS.length * CASES.length * 2 * 2, `${outbound} outbound connections`);
  assert.equal(await mesh.metric("a", "tulle_handler_faults_total"), 0);
  const socket = await connectFrom(captured.host.namespace.path, { ip: server.host.v4, port: APP_PORT });
  socket.end("hello");
  let answer = "";
  for await (const chunk of socket) answer += (chunk as Buffer).toString();
  assert.equal(answer, "hello");
});
