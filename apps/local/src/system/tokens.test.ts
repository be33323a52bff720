import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { silentLog } from "@tulle/base";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";
import { TokenFile, TokenIssuer } from "./tokens.ts";

const subject = {
  namespace: "istio-system",
  serviceAccount: { name: "ztunnel", uid: "account-1" },
  pod: { name: "ztunnel-node-1", uid: "pod-1" },
  node: "node-1",
};

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "tulle-keys-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, "keys");
}

function keysOf({ jwksPath }: TokenIssuer) {
  return createLocalJWKSet(JSON.parse(readFileSync(jwksPath, "utf8")) as JSONWebKeySet);
}

test("a token has the claims of a projected one and is good for an hour", async (t) => {
  const issuer = await TokenIssuer.open(folderOf(t));
  const now = Date.now();
  const { payload } = await jwtVerify(await issuer.issue(subject, now), keysOf(issuer), { audience: "istio-ca" });
  assert.equal(payload.sub, "system:serviceaccount:istio-system:ztunnel");
  assert.equal((payload.exp ?? 0) - (payload.iat ?? 0), 3600);
  assert.equal(payload.iat, Math.floor(now / 1000));
  assert.deepEqual(payload["kubernetes.io"], {
    namespace: "istio-system",
    serviceaccount: { name: "ztunnel", uid: "account-1" },
    pod: { name: "ztunnel-node-1", uid: "pod-1" },
    node: { name: "node-1" },
  });
});

test("the private key is root's alone, is not among the public ones, and stays over restarts", async (t) => {
  const folder = folderOf(t);
  const first = await TokenIssuer.open(folder);
  const token = await first.issue(subject, Date.now());
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.equal(statSync(join(folder, "token-key.json")).mode & 0o777, 0o600);
  assert.ok(!readFileSync(first.jwksPath, "utf8").includes('"d"'));
  const second = await TokenIssuer.open(folder);
  await jwtVerify(token, keysOf(second), { audience: "istio-ca" });
});

test("a token of another key, or for another audience, is not good", async (t) => {
  const [one, other] = [await TokenIssuer.open(folderOf(t)), await TokenIssuer.open(folderOf(t))];
  const token = await one.issue(subject, Date.now());
  await assert.rejects(jwtVerify(token, keysOf(other), { audience: "istio-ca" }));
  await assert.rejects(jwtVerify(token, keysOf(one), { audience: "somebody-else" }));
});

test("a token file is renewed before its token ends", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
  const folder = folderOf(t);
  const issuer = await TokenIssuer.open(folder);
  const path = join(folder, "token");
  using _ = await TokenFile.write(issuer, subject, path, silentLog);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const first = readFileSync(path, "utf8");
  t.mock.timers.tick(29 * 60_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(readFileSync(path, "utf8"), first);
  t.mock.timers.tick(2 * 60_000);
  const renewed = () => readFileSync(path, "utf8") !== first;
  for (let turns = 0; turns < 1000 && !renewed(); turns++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(renewed());
});
