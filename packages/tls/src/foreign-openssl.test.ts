import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type IdentityMaterial, TlsContext, type TlsContextOptions } from "./index.ts";
import { Attached } from "./testing/attach.ts";
import { copyOf, spiffe, TestCa } from "./testing/test-ca.ts";

/** The openssl command as a peer: another version of the library, without any code of ours or of Node's around it. */

/** A child that says nothing must not hold up the run. */
const BOUNDED = { timeout: 20_000 };

const ca = TestCa.create();
const ours = ca.workload("ours");
const theirs = ca.workload("theirs");
const directory = mkdtempSync(join(tmpdir(), "tulle-tls-"));
const files = writeFiles(theirs);
const children = new Set<ChildProcessWithoutNullStreams>();

after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

test("openssl s_client is served, and its key update is followed", BOUNDED, async () => {
  const { port, accepted, close } = await serve();
  const client = openssl("s_client", "-connect", `127.0.0.1:${port}`, "-alpn", "h2", "-verify_return_error");
  const server = await accepted;
  await server.until((self) => self.session.state === "open");
  client.child.stdin.write("before\n");
  await server.until((self) => self.received.toString() === "before\n");
  // A line with K alone: update the keys and ask the other side to do so too.
  // What comes together with it in one read would be dropped.
  client.child.stdin.write("K\n");
  await client.prints(/KEYUPDATE/);
  client.child.stdin.write("after\n");
  await server.until((self) => self.received.toString() === "before\nafter\n");
  server.write("answer with new keys");
  await client.prints(/answer with new keys/);
  // Q ends the connection with close_notify.
  client.child.stdin.write("Q\n");
  await server.until((self) => self.end === 0);
  server.close();
  await close();
});

test(
  "openssl s_client without the post-quantum group is refused by a context that wants only that",
  BOUNDED,
  async () => {
    const { port, accepted, close } = await serve({ pqcOnly: true });
    const client = openssl("s_client", "-connect", `127.0.0.1:${port}`, "-alpn", "h2", "-groups", "X25519:P-256");
    const server = await accepted;
    await server.until((self) => self.session.state === "failed");
    assert.match(server.session.error?.message ?? "", /peer supports nothing that is accepted here/);
    await client.prints(/handshake failure/);
    server.close();
    await close();
  },
);

for (const group of ["X25519", "P-256", "P-384"]) {
  test(`openssl s_client may use ${group}`, BOUNDED, async () => {
    const { port, accepted, close } = await serve();
    openssl("s_client", "-connect", `127.0.0.1:${port}`, "-alpn", "h2", "-groups", group);
    const server = await accepted;
    await server.until((self) => self.session.state === "open");
    server.close();
    await close();
  });
}

test("openssl s_server serves our client, which writes, reads, and ends in an orderly way", BOUNDED, async () => {
  const server = openssl("s_server", "-accept", "127.0.0.1:0", "-alpn", "h2", "-Verify", "2", "-verify_return_error");
  const [, port] = await server.prints(/ACCEPT .*?:(\d+)/);
  using context = TlsContext.create(copyOf(ours));
  const socket = net.connect(Number(port), "127.0.0.1");
  const client = new Attached(context.client({ kind: "identities", uris: [spiffe("theirs")] }), socket);
  await client.until((self) => self.session.state === "open");
  assert.equal(client.session.peer?.identity.serviceAccount, "theirs");
  client.write("to the server\n");
  await server.prints(/to the server/);
  server.child.stdin.write("to the client\n");
  await client.until((self) => self.received.toString() === "to the client\n");
  client.shutdown();
  await client.until((self) => self.end === 0);
  client.close();
});

test("openssl s_server learns from an alert that it is not whom we wanted", BOUNDED, async () => {
  const server = openssl("s_server", "-accept", "127.0.0.1:0", "-alpn", "h2");
  const [, port] = await server.prints(/ACCEPT .*?:(\d+)/);
  using context = TlsContext.create(copyOf(ours));
  const socket = net.connect(Number(port), "127.0.0.1");
  const client = new Attached(context.client({ kind: "identities", uris: [spiffe("somebody-else")] }), socket);
  await client.until((self) => self.session.state === "failed");
  assert.match(client.session.error?.message ?? "", /did not present the expected SAN/);
  await server.prints(/alert bad certificate/);
  client.close();
});

async function serve(options?: TlsContextOptions) {
  const context = TlsContext.create(copyOf(ours), options);
  const listener = net.createServer();
  const accepted = new Promise<Attached>((resolve) => {
    listener.once("connection", (socket) => {
      resolve(new Attached(context.server({ kind: "trust-domain", trustDomain: "cluster.local" }), socket));
    });
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const close = async () => {
    context.close();
    listener.close();
    await once(listener, "close");
  };
  return { port: (listener.address() as net.AddressInfo).port, accepted, close };
}

function openssl(command: string, ...args: readonly string[]) {
  const child = spawn("openssl", [command, "-CAfile", files.ca, "-cert", files.cert, "-key", files.key, ...args]);
  children.add(child);
  child.once("exit", () => children.delete(child));
  child.stdin.on("error", () => child.kill("SIGKILL"));
  let printed = "";
  const watchers: (() => void)[] = [];
  const take = (chunk: Buffer) => {
    printed += chunk.toString("latin1");
    for (const watch of watchers) watch();
  };
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  /** Resolves once the output matches; rejects when the process ends without it. */
  const prints = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const watch = () => {
        const match = pattern.exec(printed);
        if (match !== null) resolve(match);
      };
      watchers.push(watch);
      child.once("close", () => reject(new Error(`openssl ended without ${pattern.source}:\n${printed}`)));
      watch();
    });
  return { child, prints };
}

function writeFiles(material: IdentityMaterial): { readonly ca: string; readonly cert: string; readonly key: string } {
  const key = createPrivateKey({ key: Buffer.from(material.privateKey), format: "der", type: "pkcs8" });
  const write = (name: string, text: string | Buffer) => {
    const path = join(directory, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return {
    ca: write("ca.pem", material.rootsPem),
    cert: write("cert.pem", material.certificateChainPem),
    key: write("key.pem", key.export({ type: "pkcs8", format: "pem" })),
  };
}
