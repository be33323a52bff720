import assert from "node:assert/strict";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { test } from "node:test";
import { ConnectError, createClient } from "@connectrpc/connect";
import { ca } from "@tulle/api";
import { CertificateAuthority } from "./authority.ts";
import { openGrpcChannel } from "./grpc-channel.ts";
import { type GrpcServer, type GrpcServerOptions, grpcPeer, startGrpcServer } from "./grpc-server.ts";
import { spkiOf } from "./authority.ts";
import { PrivateKey } from "./private-key.ts";

const authority = await CertificateAuthority.selfSigned();
/** A handshake and a call have to come within it on a busy machine too. */
const SILENT_MS = 2_000;

interface Running extends AsyncDisposable {
  readonly server: GrpcServer;
  readonly refused: string[];
  session(): ClientHttp2Session;
  raw(): Socket;
}

/** A server whose only call says that the caller is known. */
async function start(
  options: Partial<GrpcServerOptions> = {},
  call: () => Promise<void> = () => Promise.resolve(),
): Promise<Running> {
  const key = PrivateKey.generate();
  const own = await authority.issue({ spki: spkiOf(key), dnsNames: ["localhost"] });
  const refused: string[] = [];
  const server = await startGrpcServer({
    certificateChainPem: own.chain.join(""),
    privateKeyPem: key.exportPem(),
    onRefused: (limit) => refused.push(limit),
    routes: (router) =>
      router.service(ca.IstioCertificateService, {
        createCertificate: async (_, context) => {
          grpcPeer(context).authenticated?.();
          await call();
          return {};
        },
      }),
    ...options,
  });
  const open: { destroy(): void }[] = [];
  const keep = <T extends { destroy(): void; on(event: "error", listener: () => void): unknown }>(one: T): T => {
    one.on("error", () => undefined);
    open.push(one);
    return one;
  };
  return {
    server,
    refused,
    session: () => keep(connectHttp2(`https://localhost:${server.port}`, { ca: authority.rootsPem })),
    // Who does not read does not hear the end.
    raw: () => keep(connectTcp(server.port, "127.0.0.1").resume()),
    [Symbol.asyncDispose]: async () => {
      for (const one of open) one.destroy();
      await server.close();
    },
  };
}

function channel(server: GrpcServer) {
  const address = `https://localhost:${server.port}`;
  return openGrpcChannel({ address, roots: { kind: "pem", pem: authority.rootsPem }, token: { kind: "none" } });
}

function ended(one: {
  readonly closed?: boolean;
  readonly destroyed: boolean;
  once(event: "close", listener: () => void): unknown;
}) {
  return one.destroyed ? Promise.resolve() : new Promise<void>((resolve) => one.once("close", resolve));
}

test("a connection on which nobody says who it is is ended, the others stay", async () => {
  await using running = await start({ unauthenticated: { timeoutMs: SILENT_MS, maxConnections: 10 } });
  const silent = running.session();
  const speaking = await channel(running.server);
  await createClient(ca.IstioCertificateService, speaking.transport).createCertificate({});
  await ended(silent);
  assert.deepEqual(running.refused, ["unauthenticated"]);
  await new Promise((resolve) => setTimeout(resolve, SILENT_MS + 200));
  await createClient(ca.IstioCertificateService, speaking.transport).createCertificate({});
  assert.deepEqual(running.refused, ["unauthenticated"], "who is known is not ended");
  speaking.close();
});

test("of connections on which nobody has said who it is only so many are kept", async () => {
  await using running = await start({ unauthenticated: { timeoutMs: 60_000, maxConnections: 2 } });
  const kept = [running.session(), running.session()];
  await Promise.all(kept.map((session) => new Promise((resolve) => session.once("remoteSettings", resolve))));
  const third = running.session();
  await ended(third);
  assert.deepEqual(running.refused, ["unauthenticated"]);
  assert.ok(kept.every(({ destroyed }) => !destroyed));
});

test("handshakes under way are bounded, and one that is over makes room", async () => {
  await using running = await start({ maxHandshakes: 2 });
  const stuck = [running.raw(), running.raw()];
  await Promise.all(stuck.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
  await ended(running.raw());
  assert.deepEqual(running.refused, ["handshakes"]);
  for (const socket of stuck) socket.destroy();
  // The server hears of it a moment later.
  for (let open = false; !open; ) {
    const session = running.session();
    const outcome = await Promise.race([
      new Promise<"open">((resolve) => session.once("remoteSettings", () => resolve("open"))),
      ended(session).then(() => "closed" as const),
    ]);
    open = outcome === "open";
  }
  // More than may shake hands at a time, one after the other.
  for (let i = 0; i < 3; i++) {
    const session = running.session();
    await new Promise((resolve) => session.once("remoteSettings", resolve));
  }
});

test("at the end calls that are under way have their time, and not more", async () => {
  const gate = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  const patient = await start({}, () => {
    arrived.resolve();
    return gate.promise;
  });
  const first = await channel(patient.server);
  const call = createClient(ca.IstioCertificateService, first.transport).createCertificate({});
  await arrived.promise;
  const closing = patient.server.close(5_000);
  gate.resolve();
  await call;
  await closing;
  first.close();

  const begun = Promise.withResolvers<void>();
  const never = await start({}, () => {
    begun.resolve();
    return new Promise(() => undefined);
  });
  const second = await channel(never.server);
  const cut = createClient(ca.IstioCertificateService, second.transport).createCertificate({});
  cut.catch(() => undefined);
  await begun.promise;
  const begin = performance.now();
  await never.server.close(100);
  assert.ok(performance.now() - begin < 20_000);
  await assert.rejects(cut, (error) => error instanceof ConnectError);
  second.close();
});
