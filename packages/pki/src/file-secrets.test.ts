import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { setTimeout as delay } from "node:timers/promises";
import { CertificateAuthority, FileSecrets, type WorkloadCertificate } from "./index.ts";

const IDENTITY = { trustDomain: "td", namespace: "ns", serviceAccount: "sa" };
const OTHER = { ...IDENTITY, serviceAccount: "other" };

async function setUp() {
  const directory = mkdtempSync(join(tmpdir(), "tulle-files-"));
  const authority = await CertificateAuthority.selfSigned();
  const files = {
    identity: IDENTITY,
    certificateChain: join(directory, "cert-chain.pem"),
    privateKey: join(directory, "key.pem"),
    roots: join(directory, "root-cert.pem"),
  };
  const put = (certificate: WorkloadCertificate) => {
    writeFileSync(files.certificateChain, certificate.certificateChainPem);
    writeFileSync(files.privateKey, certificate.exportPrivateKeyPem(), { mode: 0o600 });
    writeFileSync(files.roots, certificate.rootsPem);
  };
  const open: FileSecrets[] = [];
  const start = (clock?: { now(): number; wall(): number }) => {
    const secrets = new FileSecrets({ files: [files], debounceMs: 10, ...(clock === undefined ? {} : { clock }) });
    open.push(secrets);
    return secrets;
  };
  const end = () => {
    for (const secrets of open) secrets.close();
    rmSync(directory, { recursive: true });
  };
  return { authority, files, put, start, [Symbol.dispose]: end };
}

test("a certificate is read from files", async () => {
  using rig = await setUp();
  const certificate = await rig.authority.issueIdentity(IDENTITY);
  rig.put(certificate);
  const secrets = rig.start();
  assert.equal((await secrets.get(IDENTITY)).serialNumber, certificate.serialNumber);
  assert.equal(secrets.entries()[0]?.state.kind, "available");
  assert.ok(!inspect(secrets, { depth: 20, showHidden: true }).includes("PRIVATE KEY"));
});

test("a new certificate in the files is used and told", async () => {
  using rig = await setUp();
  rig.put(await rig.authority.issueIdentity(IDENTITY));
  const secrets = rig.start();
  await secrets.get(IDENTITY);
  const told: (string | undefined)[] = [];
  secrets.subscribe((_, certificate) => told.push(certificate?.serialNumber));
  const next = await rig.authority.issueIdentity(IDENTITY);
  rig.put(next);
  for (let i = 0; i < 200 && told.length === 0; i++) await delay(10);
  assert.deepEqual(told, [next.serialNumber]);
  assert.equal((await secrets.get(IDENTITY)).serialNumber, next.serialNumber);
});

test("files that cannot be used are refused with the reason, and leave a good certificate in place", async () => {
  const cases: [string, RegExp, (rig: Awaited<ReturnType<typeof setUp>>) => Promise<void>][] = [
    ["missing", /ENOENT/, async (rig) => rmSync(rig.files.privateKey)],
    ["another identity", /did not find expected SAN/, async (rig) => rig.put(await rig.authority.issueIdentity(OTHER))],
    [
      "another root",
      /no trusted root/,
      async (rig) => writeFileSync(rig.files.roots, (await CertificateAuthority.selfSigned()).rootsPem),
    ],
    [
      "another key",
      /does not belong to its private key/,
      async (rig) => {
        const other = await rig.authority.issueIdentity(IDENTITY);
        writeFileSync(rig.files.privateKey, other.exportPrivateKeyPem());
      },
    ],
    ["a broken key", /not an unencrypted PEM private key/, async (rig) => writeFileSync(rig.files.privateKey, "x")],
    ["an empty chain", /the chain is empty/, async (rig) => writeFileSync(rig.files.certificateChain, "")],
  ];
  for (const [name, reason, spoil] of cases) {
    using rig = await setUp();
    const good = await rig.authority.issueIdentity(IDENTITY);
    rig.put(good);
    const before = rig.start();
    await before.get(IDENTITY);
    await spoil(rig);
    await before.reload();
    assert.equal(before.current(IDENTITY)?.serialNumber, good.serialNumber, name);
    const after = rig.start();
    await assert.rejects(after.get(IDENTITY), { code: "IDENTITY_UNAVAILABLE", message: reason }, name);
  }
});

test("an expired file is not used", async () => {
  using rig = await setUp();
  rig.put(await rig.authority.issueIdentity(IDENTITY, 60_000));
  let wall = Date.now();
  const secrets = rig.start({ now: () => wall, wall: () => wall });
  await secrets.get(IDENTITY);
  wall += 61_000;
  assert.equal(secrets.current(IDENTITY), undefined);
  await assert.rejects(secrets.get(IDENTITY), /has expired/);
});

test("an identity without files has no certificate", async () => {
  using rig = await setUp();
  rig.put(await rig.authority.issueIdentity(IDENTITY));
  await assert.rejects(
    rig.start().get(OTHER),
    /no certificate files are configured for spiffe:\/\/td\/ns\/ns\/sa\/other/,
  );
});
