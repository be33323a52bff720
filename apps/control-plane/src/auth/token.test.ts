import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type TokenReview } from "@tulle/store";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { MemoryStore } from "../testing/memory-store.fixture.ts";
import { AnswerCache } from "./answer-cache.ts";
import { JwtAuthenticator } from "./jwt.ts";
import { Slots } from "./slots.ts";
import { TokenReviewAuthenticator } from "./token-review.ts";

const AUDIENCES = ["istio-ca"];

/** Not signed by anybody: the API server of these tests believes it. */
function jwt(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.x`;
}

function reviewer(status: TokenReview["status"] | (() => TokenReview["status"])) {
  const store = new MemoryStore();
  let reviews = 0;
  store.answers.set("tokenreviews", (object) => {
    reviews++;
    return { ...object, status: typeof status === "function" ? status() : status };
  });
  let now = 1_000_000;
  const authenticator = new TokenReviewAuthenticator({ store, audiences: AUDIENCES, wall: () => now });
  return { authenticator, reviews: () => reviews, pass: (ms: number) => (now += ms), now: () => now };
}

const USER = { username: "system:serviceaccount:shop:cart", groups: ["system:serviceaccounts"] };
const GOOD = { authenticated: true, audiences: AUDIENCES, user: USER };

test("an answer of the API server must be whole before it counts", async () => {
  const cases: readonly (readonly [string, TokenReview["status"], RegExp])[] = [
    ["no status", undefined, /does not accept/],
    ["not authenticated", { authenticated: false, error: "expired" }, /does not accept the token: expired/],
    ["no audience, as of a server that knows of none", { authenticated: true, user: USER }, /not for istio-ca/],
    ["another audience", { ...GOOD, audiences: ["vault"] }, /not for istio-ca/],
    ["no group", { ...GOOD, user: { ...USER, groups: [] } }, /not a service account/],
    ["a person", { ...GOOD, user: { ...USER, username: "admin" } }, /not a service account/],
    [
      "a name with more parts",
      { ...GOOD, user: { ...USER, username: "system:serviceaccount:a:b:c" } },
      /not a service/,
    ],
  ];
  for (const [name, status, reason] of cases) {
    const { authenticator, now } = reviewer(status);
    const result = await authenticator.authenticate(jwt({ exp: now() / 1000 + 100 }));
    assert.ok(!result.ok, name);
    assert.match(result.reason, reason, name);
  }
});

test("a good answer is believed for a minute at most and never beyond the token's end, a bad one for seconds", async () => {
  const good = reviewer(GOOD);
  const token = jwt({ exp: good.now() / 1000 + 3600 });
  for (const [wait, reviews] of [
    [0, 1],
    [59_000, 1],
    [2_000, 2],
  ] as const) {
    good.pass(wait);
    assert.ok((await good.authenticator.authenticate(token)).ok);
    assert.equal(good.reviews(), reviews);
  }
  const short = reviewer(GOOD);
  const ending = jwt({ exp: short.now() / 1000 + 10 });
  assert.ok((await short.authenticator.authenticate(ending)).ok);
  short.pass(10_000);
  assert.ok(!(await short.authenticator.authenticate(ending)).ok);
  assert.equal(short.reviews(), 1, "a token that has ended is not even shown to the API server");
  const bad = reviewer({ authenticated: false });
  const refused = jwt({ exp: bad.now() / 1000 + 3600 });
  for (const [wait, reviews] of [
    [0, 1],
    [4_000, 1],
    [2_000, 2],
  ] as const) {
    bad.pass(wait);
    assert.ok(!(await bad.authenticator.authenticate(refused)).ok);
    assert.equal(bad.reviews(), reviews);
  }
  assert.ok(!(await good.authenticator.authenticate(jwt({}))).ok, "a token without an end");
});

test("so many tasks run, so many wait, the rest is refused", async () => {
  const slots = new Slots({ slots: 2, waiting: 1 });
  const gates = [0, 1, 2].map(() => Promise.withResolvers<void>());
  let running = 0;
  const task = (index: number) => async () => {
    running++;
    await gates[index]?.promise;
    running--;
    return index;
  };
  const results = [0, 1, 2].map((index) => slots.run(task(index)));
  assert.equal(running, 2);
  await assert.rejects(slots.run(task(0)), /too many/);
  gates[0]?.resolve();
  await results[0];
  await Promise.resolve();
  assert.equal(running, 2, "who waited took over");
  for (const { resolve } of gates) resolve();
  assert.deepEqual(await Promise.all(results), [0, 1, 2]);
  assert.equal(await slots.run(() => Promise.resolve("again")), "again");
});

test("answers are bounded in number", () => {
  const cache = new AnswerCache<number>({ max: 2, wall: () => 0 });
  for (const [key, value] of [
    ["a", 1],
    ["b", 2],
    ["a", 3],
    ["c", 4],
  ] as const)
    cache.set(key, value, 1);
  assert.deepEqual([cache.get("a"), cache.get("b"), cache.get("c")], [3, undefined, 4]);
});

test("a key that is taken out of the file is no longer good, and a symmetric or absent algorithm never was", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tulle-jwks-"));
  try {
    const jwks = join(folder, "jwks.json");
    const pair = await generateKeyPair("ES256");
    const other = await generateKeyPair("ES256");
    const write = async (...keys: CryptoKey[]) => {
      const all = await Promise.all(
        keys.map(async (key, i) => ({ ...(await exportJWK(key)), kid: `k${i}`, alg: "ES256" })),
      );
      await writeFile(jwks, JSON.stringify({ keys: all }));
    };
    const account = { name: "cart" };
    const claims = {
      sub: "system:serviceaccount:shop:cart",
      "kubernetes.io": { namespace: "shop", serviceaccount: account, pod: { name: "cart-1", uid: "u" } },
    };
    const sign = (alg: string, key: CryptoKey | Uint8Array) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg, kid: "k0" })
        .setAudience(AUDIENCES)
        .setIssuedAt()
        .setExpirationTime("10m")
        .sign(key);
    const authenticator = new JwtAuthenticator({ jwks, audiences: AUDIENCES });
    const token = await sign("ES256", pair.privateKey);
    assert.ok(!(await authenticator.authenticate(token)).ok, "there is no file yet");
    await write(pair.publicKey);
    const result = await authenticator.authenticate(token);
    assert.deepEqual(result.ok && result.caller.pod, { name: "cart-1", uid: "u" });
    assert.ok(!(await authenticator.authenticate(await sign("HS256", new Uint8Array(32)))).ok);
    const [, payload = ""] = token.split(".");
    const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${payload}.`;
    assert.ok(!(await authenticator.authenticate(none)).ok);
    await write(other.publicKey, other.publicKey);
    assert.ok(!(await authenticator.authenticate(token)).ok);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
