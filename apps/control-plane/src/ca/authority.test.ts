import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { test } from "node:test";
import { type Log, silentLog, systemClock } from "@tulle/base";
import { type AuthorityPem, CertificateAuthority } from "@tulle/pki";
import { SECRET, type Secret, StoreError } from "@tulle/store";
import { MemoryStore } from "../testing/memory-store.fixture.ts";
import { TestMesh, until } from "../testing/test-mesh.fixture.ts";
import { pluggedInAuthority } from "./plugged-in.ts";
import { CA_SECRET, selfSignedAuthority } from "./self-signed.ts";
import { servingHosts, ServingCertificate } from "./serving-certificate.ts";

const DAY_MS = 86_400_000;
const REF = { namespace: "istio-system", name: CA_SECRET };

function selfSigned(store: MemoryStore) {
  return selfSignedAuthority({
    store,
    namespace: "istio-system",
    trustDomain: "cluster.local",
    rootTtlMs: 3650 * DAY_MS,
    authority: {},
    log: silentLog,
  });
}

test("the root is made once and found again", async () => {
  const store = new MemoryStore();
  const first = await selfSigned(store);
  const secret = store.find(SECRET, REF);
  assert.equal(secret?.type, "istio.io/ca-root");
  assert.deepEqual(Object.keys(secret?.data ?? {}), ["ca-cert.pem", "ca-key.pem"]);
  const again = await selfSigned(store);
  assert.equal(again.current().rootsPem, first.current().rootsPem);
  assert.match(first.current().certificate.subject, /O=cluster.local/);
});

test("of two that start at once the first one's root is the mesh's", async () => {
  const store = new MemoryStore();
  let other: CertificateAuthority | undefined;
  store.onWrite = async (verb, kind) => {
    if (verb !== "create" || kind.plural !== "secrets" || other !== undefined) return;
    other = await CertificateAuthority.selfSigned();
    const { certificatePem, privateKeyPem } = other.exportPem();
    store.put<Secret>(SECRET, {
      apiVersion: "v1",
      kind: "Secret",
      metadata: REF,
      data: {
        "ca-cert.pem": Buffer.from(certificatePem).toString("base64"),
        "ca-key.pem": Buffer.from(privateKeyPem).toString("base64"),
      },
    });
  };
  const mine = await selfSigned(store);
  assert.equal(mine.current().rootsPem, other?.rootsPem);
});

test("a Secret that cannot be used stops the start and is not overwritten; so does an API that refuses", async () => {
  const store = new MemoryStore();
  const put = (data: Record<string, string>) =>
    store.put<Secret>(SECRET, { apiVersion: "v1", kind: "Secret", metadata: REF, data });
  put({ "ca-cert.pem": "AAAA" });
  await assert.rejects(
    selfSigned(store),
    /Secret istio-system\/istio-ca-secret lacks .*ca-key.pem; repair it, or delete it/,
  );
  put({ "ca-cert.pem": "AAAA", "ca-key.pem": "AAAA" });
  await assert.rejects(selfSigned(store), /cannot be used/);
  assert.equal(store.find(SECRET, REF)?.data?.["ca-cert.pem"], "AAAA");
  const closed = new MemoryStore();
  closed.onWrite = () => {
    throw new StoreError("FORBIDDEN", "secrets is forbidden");
  };
  await assert.rejects(selfSigned(closed), /forbidden/);
});

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tulle-cacerts-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function write(folder: string, pem: Required<AuthorityPem>, without: readonly string[] = []): Promise<void> {
  const files = {
    "ca-cert.pem": pem.certificatePem,
    "ca-key.pem": pem.privateKeyPem,
    "root-cert.pem": pem.rootsPem,
    "cert-chain.pem": pem.chainPem,
  };
  for (const [name, text] of Object.entries(files)) {
    if (without.includes(name)) await rm(join(folder, name), { force: true });
    else await writeFile(join(folder, name), text);
  }
}

function pluggedIn(directory: string, log: Log = silentLog) {
  return pluggedInAuthority({ directory, authority: {}, log, debounceMs: 10, pollMs: 50 });
}

test("no files are no authority, some of them are a mistake, all of them sign with their chain", async () => {
  await withFolder(async (folder) => {
    assert.equal(await pluggedIn(join(folder, "absent")), undefined);
    assert.equal(await pluggedIn(folder), undefined);
    const authority = await CertificateAuthority.selfSigned({ intermediate: true });
    const pem = authority.exportPem();
    for (const name of ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"]) {
      await write(folder, pem, [name]);
      await assert.rejects(pluggedIn(folder), new RegExp(`holds .*, but not ${name}: add what is missing`));
    }
    const other = (await CertificateAuthority.selfSigned({ intermediate: true })).exportPem();
    await write(folder, { ...pem, privateKeyPem: other.privateKeyPem });
    await assert.rejects(pluggedIn(folder), /does not belong to its key/);
    await write(folder, { ...pem, rootsPem: other.rootsPem });
    await assert.rejects(pluggedIn(folder), /no trusted root has issued/);
    await write(folder, pem);
    const source = await pluggedIn(folder);
    const leaf = await source?.current().issueIdentity({ trustDomain: "t", namespace: "n", serviceAccount: "s" });
    assert.ok(leaf);
    source?.close();
  });
});

test("the layout of kubernetes.io/tls is an authority too", async () => {
  await withFolder(async (folder) => {
    const { certificatePem, privateKeyPem, rootsPem } = (
      await CertificateAuthority.selfSigned({ intermediate: true })
    ).exportPem();
    await writeFile(join(folder, "tls.crt"), certificatePem);
    await writeFile(join(folder, "tls.key"), privateKeyPem);
    await assert.rejects(pluggedIn(folder), /but not ca.crt/);
    await writeFile(join(folder, "ca.crt"), rootsPem);
    const source = await pluggedIn(folder);
    assert.equal(source?.current().rootsPem, rootsPem);
    source?.close();
  });
});

test("another intermediate under the same root is taken over live, another root is not", async () => {
  await withFolder(async (folder) => {
    const root = await CertificateAuthority.selfSigned();
    await write(folder, await intermediateOf(root));
    const lines: string[] = [];
    const log: Log = { ...quiet, error: (message, fields) => lines.push(`${message}: ${String(fields?.["error"])}`) };
    const source = await pluggedIn(folder, log);
    assert.ok(source);
    let changes = 0;
    source.subscribe(() => changes++);
    const before = source.current().certificate.serialNumber;
    await write(folder, await intermediateOf(root));
    await until(() => changes === 1, "the new intermediate is in use");
    assert.notEqual(source.current().certificate.serialNumber, before);
    const kept = source.current();
    await write(folder, await intermediateOf(await CertificateAuthority.selfSigned()));
    await until(() => lines.some((line) => /the roots are others than before/.test(line)), "the other root is refused");
    assert.equal(source.current(), kept);
    await rm(join(folder, "ca-key.pem"));
    await until(() => lines.some((line) => /but not ca-key.pem/.test(line)), "the missing file is told");
    assert.equal(source.current(), kept);
    source.close();
  });
});

test("the server's certificate has the names of the Service, ends with the maximum, and is renewed", async () => {
  const authority = await selfSigned(new MemoryStore());
  const hosts = servingHosts({ namespace: "istio-system", revision: "canary", customHosts: ["10.0.0.1"] });
  const renewed: string[] = [];
  const { first, certificate } = await ServingCertificate.start(
    // Half of it, rounded up to the least wait, is a second.
    { authority, hosts, maxTtlMs: 2_000, log: silentLog, clock: systemClock },
    ({ chainPem }) => renewed.push(chainPem),
  );
  const leaf = new X509Certificate(first.chainPem);
  assert.equal(
    leaf.subjectAltName,
    "DNS:istiod.istio-system.svc, DNS:istiod-remote.istio-system.svc, DNS:istio-pilot.istio-system.svc, " +
      "DNS:istiod-canary.istio-system.svc, IP Address:10.0.0.1",
  );
  assert.ok(leaf.validToDate.getTime() <= Date.now() + 2_000);
  await until(() => renewed.length > 0, "it is renewed");
  certificate.close();
});

test("a control plane with files hands out leaves of their intermediate, and shows it to its clients", async () => {
  await withFolder(async (folder) => {
    const directory = join(folder, "cacerts");
    await mkdir(directory);
    const root = await CertificateAuthority.selfSigned();
    await write(directory, await intermediateOf(root));
    await using mesh = await TestMesh.start({ env: { ROOT_CA_DIR: directory } });
    assert.equal(mesh.controlPlane.roots(), root.rootsPem);
    assert.equal(mesh.store.find(SECRET, REF), undefined, "no Secret is made");
    mesh.putPod({ name: "cart-1", account: "cart" });
    const token = await mesh.token(mesh.putZtunnel("n1"));
    await mesh.certificate(token, { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });
    const { secureGrpc } = mesh.controlPlane.ports;
    const shown = await handshake(secureGrpc, root.rootsPem, "TLSv1.3");
    assert.equal(shown, "TLSv1.3");
    assert.equal(await handshake(secureGrpc, root.rootsPem, "TLSv1.2"), "TLSv1.2");
    await assert.rejects(handshake(secureGrpc, root.rootsPem, "TLSv1.1"));
    await assert.rejects(handshake(secureGrpc, (await CertificateAuthority.selfSigned()).rootsPem, "TLSv1.3"));
  });
});

const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  scope: () => quiet,
};

async function intermediateOf(root: CertificateAuthority): Promise<Required<AuthorityPem>> {
  return (await root.issueIntermediate()).exportPem();
}

function handshake(port: number, ca: string, maxVersion: "TLSv1.1" | "TLSv1.2" | "TLSv1.3"): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, ca, maxVersion, minVersion: "TLSv1.1", ALPNProtocols: ["h2"] } as const;
    const socket = connect({ ...options, servername: "localhost" });
    socket.once("error", reject);
    socket.once("secureConnect", () => {
      const version = socket.getProtocol();
      socket.destroy();
      resolve(version);
    });
  });
}
