import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { formatIdentity } from "@tulle/base";
import { type LabProcess, listenIn, until } from "@tulle/lab";
import type { WaypointDoubleConfig } from "../../packages/testkit/src/waypoint-double.ts";
import { ask, echo } from "./call.ts";
import { type LabPod, MeshLab, POD_NAMESPACE } from "./mesh-lab.ts";

/** Traffic that belongs to a waypoint goes there first, with the client's identity, and on from there as the waypoint. */

const PORT = 8080;
const VIP = "10.200.0.1";
const HOSTNAME = "web.demo.svc.cluster.local";
const DOUBLE = fileURLToPath(new URL("../../packages/testkit/src/waypoint-double.ts", import.meta.url));

let mesh: MeshLab;
let server: LabPod;
let waypointPod: LabPod;
let waypoint: LabProcess;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create();
  server = await mesh.pod("server", { node: "b", services: { [`${POD_NAMESPACE}/${HOSTNAME}`]: { 80: PORT } } });
  await mesh.pod("client", { node: "a" });
  await mesh.pod("forbidden", { node: "a" });
  waypointPod = await mesh.pod("waypoint", {
    node: "b",
    enrolled: false,
    extra: { protocol: "HBONE", nativeTunnel: true },
  });
  servers.push(await listenIn(server.host.namespace.path, { ip: server.host.v4, port: PORT }, echo));
  waypoint = await startDouble();
});

afterEach(() => {
  mesh.services = [];
  mesh.policies = [];
  server.options = { ...server.options, extra: {} };
});

after(async () => {
  await waypoint.stop();
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

async function startDouble(): Promise<LabProcess> {
  const certificate = await mesh.ca.authority.issueIdentity(mesh.identity("waypoint"));
  const file = (name: string, text: string) => {
    const path = join(mesh.folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const authority = `${server.host.v4}:${PORT}`;
  const route = { ip: server.host.v4, authority, identity: formatIdentity(mesh.identity("server")) };
  const config: WaypointDoubleConfig = {
    listen: { ip: waypointPod.host.v4, port: 15_008 },
    certificate: file("waypoint-chain.pem", certificate.certificateChainPem),
    key: file("waypoint-key.pem", certificate.exportPrivateKeyPem()),
    roots: file("waypoint-roots.pem", certificate.rootsPem),
    allowed: [formatIdentity(mesh.identity("client"))],
    routes: { [`${VIP}:80`]: route, [authority]: route },
  };
  const path = file("waypoint.json", JSON.stringify(config));
  const process_ = await waypointPod.host.namespace.start(process.execPath, [DOUBLE, path]);
  await process_.waitForOutput(/ready/);
  return process_;
}

/** CONNECTs that the waypoint has seen. */
function seen(): { authority: string; identity: string; allowed: boolean; remote: string }[] {
  const lines = waypoint.output.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line));
}

/** What it has written may come later than what it has done. */
const seenSince = (before: number) =>
  until(() => seen().length > before && seen().slice(before), { what: "the waypoint to have seen a CONNECT" });

const askFrom = (pod: string, ip: string, port: number) =>
  ask((mesh.pods.get(pod) as LabPod).host.namespace.path, { ip, port });
const gateway = () => ({ destination: `/${waypointPod.host.v4}`, hboneMtlsPort: 15_008 });

/** The server lets in nobody but the waypoint: whatever gets an answer has come through it. */
const ONLY_WAYPOINT = {
  name: "only-waypoint",
  namespace: POD_NAMESPACE,
  scope: "Namespace",
  action: "Allow",
  dryRun: false,
  rules: [[[{ principals: [{ Exact: "cluster.local/ns/demo/sa/waypoint" }] }]]],
};

async function withWaypoint(of: "service" | "workload"): Promise<{ ip: string; port: number }> {
  const service = { name: "web", namespace: POD_NAMESPACE, hostname: HOSTNAME, vips: [`/${VIP}`], ports: { 80: PORT } };
  mesh.services = [of === "service" ? { ...service, waypoint: gateway() } : service];
  if (of === "workload") server.options = { ...server.options, extra: { waypoint: gateway() } };
  mesh.policies = [ONLY_WAYPOINT];
  await mesh.reload();
  return of === "service" ? { ip: VIP, port: 80 } : { ip: server.host.v4, port: PORT };
}

for (const what of ["service", "workload"] as const) {
  test(`a ${what} with a waypoint is reached through it alone, and the server sees the waypoint's identity`, async () => {
    const { ip, port } = await withWaypoint(what);
    const before = seen().length;
    assert.equal(await askFrom("client", ip, port), "ok");
    const [call, ...more] = await seenSince(before);
    assert.deepEqual(more, []);
    assert.deepEqual([call?.authority, call?.identity], [`${ip}:${port}`, "spiffe://cluster.local/ns/demo/sa/client"]);
    assert.equal(call?.remote, (mesh.pods.get("client") as LabPod).host.v4);
    const toWaypoint = [
      `dst.addr=${waypointPod.host.v4}:15008`,
      `dst.hbone_addr=${ip}:${port} `,
      'src.workload="client"',
    ];
    await until(() => mesh.logLines("a", 'dst.workload="waypoint"', ...toWaypoint).length > 0, {
      what: "the client's node to name the waypoint",
    });
    await until(
      () =>
        mesh.logLines("b", 'direction="inbound"', 'src.identity="spiffe://cluster.local/ns/demo/sa/waypoint"').length >
        0,
      { what: "the server's node to name the waypoint" },
    );
  });

  test(`whom the waypoint of a ${what} refuses does not get through another way`, async () => {
    const { ip, port } = await withWaypoint(what);
    const before = seen().length;
    assert.equal(await askFrom("forbidden", ip, port), "ECONNRESET");
    assert.deepEqual(
      (await seenSince(before)).map(({ identity, allowed }) => [identity, allowed]),
      [["spiffe://cluster.local/ns/demo/sa/forbidden", false]],
    );
    await until(() => mesh.logLines("a", "http status: 403", 'src.workload="forbidden"').length > 0, {
      what: "the log",
    });
  });
}

test("a service's waypoint counts for the service only: the pod's own address is reached directly", async () => {
  await withWaypoint("service");
  mesh.policies = [];
  await mesh.reload();
  const before = seen().length;
  assert.equal(await askFrom("forbidden", server.host.v4, PORT), "ok");
  assert.equal(seen().length, before);
});

test("a waypoint that is gone means no connection, not a direct one", async () => {
  const { ip, port } = await withWaypoint("service");
  mesh.policies = [];
  await mesh.reload();
  await waypoint.stop();
  assert.equal(await askFrom("client", ip, port), "ECONNRESET");
  waypoint = await startDouble();
  await until(async () => (await askFrom("client", ip, port)) === "ok", { what: "the waypoint's return" });
});
