import { createPrivateKey } from "node:crypto";
import { type AddressInfo } from "node:net";
import * as nodeTls from "node:tls";
import { NativeBuffer } from "@tulle/linux";
import { type IdentityMaterial, TlsContext, type TlsSession } from "../src/index.ts";
import { move, shakeHands } from "../src/testing/link.ts";
import { copyOf, spiffe, TestCa } from "../src/testing/test-ca.ts";

/**
 * Figures of the engine, next to node:tls on the same machine: `node packages/tls/tools/measure.ts [seconds]`.
 * Both sides of every connection run on this one thread; rates are per second of CPU time.
 */

const SECONDS = Number(process.argv[2] ?? 1);
const GIB = 2 ** 30;
/** As much as the data path reads and writes at once. */
const BATCH_BYTES = 128 << 10;
const SMALL_BYTES = 1024;
const IDLE_SESSIONS = 1000;

const ca = TestCa.create();
const clientMaterial = ca.workload("client");
const serverMaterial = ca.workload("server");

function pair(client: TlsContext, server: TlsContext): [TlsSession, TlsSession] {
  const c = client.client({ kind: "identities", uris: [spiffe("server")] });
  const s = server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  shakeHands(c, s);
  if (c.state !== "open" || s.state !== "open") throw c.error ?? s.error ?? new Error("no handshake");
  return [c, s];
}

/** Runs `once` for the given time; returns runs per second of CPU time, which neighbours on the machine disturb least. */
function rate(once: () => void): number {
  const warmUp = performance.now() + 200;
  while (performance.now() < warmUp) once();
  const cpu = cpuSeconds();
  const start = performance.now();
  let runs = 0;
  while (performance.now() - start < SECONDS * 1000) {
    once();
    runs++;
  }
  return runs / (cpuSeconds() - cpu);
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function measureEngine(pqcOnly: boolean): void {
  const client = TlsContext.create(copyOf(clientMaterial), { pqcOnly });
  const server = TlsContext.create(copyOf(serverMaterial), { pqcOnly });
  const handshakes = rate(() => {
    for (const session of pair(client, server)) session.close();
  });
  console.log(`handshakes per CPU second, both sides: ${handshakes.toFixed(0)}`);

  for (const size of [BATCH_BYTES, SMALL_BYTES]) {
    const [c, s] = pair(client, server);
    const plain = NativeBuffer.alloc(size);
    const out = NativeBuffer.alloc(256 << 10);
    let writing = 0;
    let reading = 0;
    const runs = rate(() => {
      const start = performance.now();
      c.write(plain, 0, size);
      const written = performance.now();
      move(c, s);
      while (s.read(out, 0, out.length) > 0);
      writing += written - start;
      reading += performance.now() - written;
    });
    const share = writing / (writing + reading);
    const both = (runs * size) / GIB;
    console.log(
      `${size} bytes a write: both ${both.toFixed(2)} GiB/s; writing ${(both / share).toFixed(2)}, reading ${(both / (1 - share)).toFixed(2)}`,
    );
    c.close();
    s.close();
  }

  const before = residentBytes();
  const idle = Array.from({ length: IDLE_SESSIONS }, () => pair(client, server));
  const out = NativeBuffer.alloc(4096);
  const plain = NativeBuffer.alloc(BATCH_BYTES);
  console.log(`idle after the handshake: ${perSession(before)} KiB a session`);
  for (const [c, s] of idle) {
    for (const [from, to] of [
      [c, s],
      [s, c],
    ] as const) {
      from.write(plain, 0, plain.length);
      move(from, to);
      while (to.read(out, 0, out.length) > 0);
    }
  }
  console.log(`idle after 128 KiB each way: ${perSession(before)} KiB a session`);
  for (const sessions of idle) for (const session of sessions) session.close();
  client.close();
  server.close();
}

function residentBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage().rss;
}

function perSession(before: number): string {
  return ((residentBytes() - before) / (2 * IDLE_SESSIONS) / 1024).toFixed(1);
}

async function measureNode(): Promise<void> {
  const options = (material: IdentityMaterial): nodeTls.TLSSocketOptions & nodeTls.SecureContextOptions => ({
    cert: material.certificateChainPem,
    key: createPrivateKey({ key: Buffer.from(material.privateKey), format: "der", type: "pkcs8" }).export({
      type: "pkcs8",
      format: "pem",
    }),
    ca: material.rootsPem,
    minVersion: "TLSv1.3",
    ALPNProtocols: ["h2"],
  });
  const clientOptions = { ...options(copyOf(clientMaterial)), checkServerIdentity: () => undefined };
  const secureContext = nodeTls.createSecureContext(clientOptions);
  let received = 0;
  const server = nodeTls.createServer(
    { ...options(copyOf(serverMaterial)), requestCert: true, rejectUnauthorized: true },
    (socket) => {
      socket.on("data", (chunk) => (received += chunk.length));
      socket.on("error", () => socket.destroy());
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const connect = () =>
    new Promise<nodeTls.TLSSocket>((resolve, reject) => {
      const socket = nodeTls.connect({ ...clientOptions, secureContext, host: "127.0.0.1", port }, () =>
        resolve(socket),
      );
      socket.on("error", reject);
    });
  const start = performance.now();
  const cpu = cpuSeconds();
  let handshakes = 0;
  while (performance.now() - start < SECONDS * 1000) {
    (await connect()).destroy();
    handshakes++;
  }
  console.log(
    `handshakes per CPU second, both sides, over loopback: ${(handshakes / (cpuSeconds() - cpu)).toFixed(0)}`,
  );
  const socket = await connect();
  for (const size of [BATCH_BYTES, SMALL_BYTES]) {
    const plain = Buffer.alloc(size);
    received = 0;
    const begin = performance.now();
    const cpuBegin = cpuSeconds();
    while (performance.now() - begin < SECONDS * 1000) {
      if (!socket.write(plain)) await new Promise((resolve) => socket.once("drain", resolve));
    }
    console.log(
      `${size} bytes a write: both ${(received / (cpuSeconds() - cpuBegin) / GIB).toFixed(2)} GiB/s over loopback`,
    );
  }
  socket.destroy();
  server.close();
}

console.log(`Node ${process.version}, OpenSSL ${process.versions.openssl}`);
console.log("— engine, X25519MLKEM768");
measureEngine(false);
console.log("— node:tls");
await measureNode();
