import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { after, before, test } from "node:test";
import { listenIn, until } from "@tulle/lab";
import { ask, Call, echo } from "./call.ts";
import { type LabPod, MeshLab } from "./mesh-lab.ts";

/** Certificates that live for seconds: rotated under load, run out, or not to be had. */

const PORT = 8080;
/** Time for a renewal (at half of it) and some calls, on a busy machine too. */
const TTL_MS = 15_000;
/** Every connection of the pool is soon too old, so that new handshakes happen all the time. */
const ENVIRONMENT = { SECRET_TTL: `${TTL_MS}ms`, TULLE_POOL_MAX_AGE: "500ms" };
/** Retries of the CA back off: 1 s, 2 s, 4 s … 16 s for the time that a test keeps it away; the rest is for a busy machine. */
const BACK_MS = 45_000;
const PACE_MS = 5;
/** A handshake waits for its certificate for 5 s at most; the rest is for a busy machine. */
const REFUSED_MS = 20_000;

let mesh: MeshLab;
let server: LabPod;
let client: LabPod;
const servers: AsyncDisposable[] = [];

before(async () => {
  mesh = await MeshLab.create({ environment: ENVIRONMENT });
  server = await mesh.pod("server", { node: "b" });
  client = await mesh.pod("client", { node: "a" });
  servers.push(await listenIn(server.host.namespace.path, { ip: server.host.v4, port: PORT }, echo));
  await mesh.reload();
});

after(async () => {
  for (const one of servers) await one[Symbol.asyncDispose]();
  await mesh.close();
});

const to = () => ({ ip: server.host.v4, port: PORT });
const askFromClient = () => ask(client.host.namespace.path, to());

interface ShownCertificate {
  readonly identity: string;
  readonly state: string;
  readonly certChain: readonly { readonly serialNumber: string; readonly expirationTime: string }[];
}

async function serverCertificate(): Promise<ShownCertificate | undefined> {
  const { certificates } = JSON.parse((await mesh.get("b", 15_000, "/config_dump")).body) as {
    certificates: ShownCertificate[];
  };
  return certificates.find(({ identity }) => identity === "spiffe://cluster.local/ns/demo/sa/server");
}

test("certificates rotate under load without a failed connection, and an open connection lives through it", async () => {
  assert.equal(await askFromClient(), "ok");
  using open = await Call.open(client.host.namespace.path, to());
  await open.say("before");
  const firstEnd = Date.parse((await serverCertificate())?.certChain[0]?.expirationTime ?? "");
  const serials = new Set<string>();
  const answers = new Map<string, number>();
  await until(
    async () => {
      const answer = await askFromClient();
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
      const serial = (await serverCertificate())?.certChain[0]?.serialNumber;
      if (serial !== undefined) serials.add(serial);
      return serials.size >= 3 && Date.now() > firstEnd;
    },
    { what: "two renewals and the first certificate's end", timeoutMs: 4 * TTL_MS, intervalMs: PACE_MS },
  );
  assert.deepEqual([...answers.keys()], ["ok"]);
  assert.ok((answers.get("ok") ?? 0) > 5, "there was load");
  await open.say("after");
});

test("without the CA a certificate is used to its end, then handshakes are refused; open connections stay", async () => {
  assert.equal(await askFromClient(), "ok");
  using open = await Call.open(client.host.namespace.path, to());
  await open.say("before");
  await mesh.caReachable("b", false);
  const last = await serverCertificate();
  const end = Date.parse(last?.certChain[0]?.expirationTime ?? "");
  while (Date.now() < end - 1000) {
    const answer = await askFromClient();
    // The answer of a busy machine may come after the end.
    if (Date.now() < end) assert.equal(answer, "ok", "it is still valid");
    await setTimeout(PACE_MS);
  }
  await until(() => Date.now() > end, { what: "the certificate to expire" });
  await until(async () => (await askFromClient()) !== "ok", { what: "handshakes to be refused" });
  assert.equal(await askFromClient(), "ECONNRESET");
  await until(() => mesh.logLines("b", "identity error: ", 'direction="inbound"').length > 0, {
    what: "the log to say why",
  });
  assert.match((await serverCertificate())?.state ?? "", /^Unavailable: /);
  await open.say("never cut");
  assert.equal((await mesh.get("b", 15_021, "/healthz/ready")).status, 200);
  await mesh.caReachable("b", true);
  await until(async () => (await askFromClient()) === "ok", { what: "the CA's return", timeoutMs: BACK_MS });
});

test("a ztunnel that starts without its CA refuses what needs a certificate, and recovers by itself", async () => {
  await mesh.caReachable("b", false);
  const { ztunnel } = mesh.node("b");
  ztunnel.signal("SIGKILL");
  await ztunnel.ended;
  await mesh.restart("b");
  const start = performance.now();
  assert.equal(await askFromClient(), "ECONNRESET");
  assert.ok(performance.now() - start < REFUSED_MS, "a handshake waits for 5 s at most");
  await until(() => mesh.logLines("b", 'error="identity error: ').length > 0, { what: "the log to say why" });
  await mesh.caReachable("b", true);
  await until(async () => (await askFromClient()) === "ok", { what: "the CA's return", timeoutMs: BACK_MS });
});
