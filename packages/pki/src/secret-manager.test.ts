import assert from "node:assert/strict";
import { test } from "node:test";
import { formatIdentity, type Identity } from "@tulle/base";
import { FakeTime } from "@tulle/testkit";
import { type CertificateSource, SecretManager, type WorkloadCertificate } from "./index.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const identity = (name: string): Identity => ({ trustDomain: "td", namespace: "ns", serviceAccount: name });
const A = identity("a");
const B = identity("b");

/** Signs at once, or when the test says so; a certificate here is its dates and a number. */
class Source implements CertificateSource {
  readonly requests: string[] = [];
  failure: string | undefined;
  lifeMs = DAY;
  backdateMs = 0;
  #serial = 0;
  #held: PromiseWithResolvers<void>[] | undefined;
  readonly #time: FakeTime;

  constructor(time: FakeTime) {
    this.#time = time;
  }

  hold(): void {
    this.#held = [];
  }

  /** Lets the oldest held request go on, or all of them. */
  release(count = Number.POSITIVE_INFINITY): void {
    for (const one of this.#held?.splice(0, count) ?? []) one.resolve();
    if (count === Number.POSITIVE_INFINITY) this.#held = undefined;
  }

  async fetch(identity: Identity): Promise<WorkloadCertificate> {
    this.requests.push(identity.serviceAccount);
    if (this.#held !== undefined) {
      const held = Promise.withResolvers<void>();
      this.#held.push(held);
      await held.promise;
    }
    if (this.failure !== undefined) throw new Error(this.failure);
    const now = this.#time.clock.wall();
    const dates = { notBefore: now - this.backdateMs, notAfter: now - this.backdateMs + this.lifeMs };
    return { identity, ...dates, serialNumber: `${++this.#serial}` } as unknown as WorkloadCertificate;
  }
}

function setUp(options: { concurrency?: number; random?: () => number } = {}) {
  const time = new FakeTime();
  const source = new Source(time);
  const random = options.random ?? (() => 0.5);
  const manager = new SecretManager({ source, clock: time.clock, sleep: time.sleep, ...options, random });
  const changes: string[] = [];
  manager.subscribe((who, certificate) => changes.push(`${who.serviceAccount}:${certificate?.serialNumber ?? "none"}`));
  const stateOf = (who: Identity) => {
    const state = manager.entries().find((entry) => entry.uri === formatIdentity(who))?.state;
    return state?.kind === "unavailable" ? `unavailable: ${state.reason}` : state?.kind;
  };
  return { time, source, manager, changes, stateOf };
}

test("cache_refresh: a certificate is kept, and renewed at half of its life", async () => {
  const { time, source, manager, changes } = setUp();
  const first = await manager.get(A);
  assert.equal(await manager.get(A), first);
  await time.advance(DAY / 2 - 1);
  assert.equal(source.requests.length, 1);
  await time.advance(1);
  assert.equal(source.requests.length, 2);
  assert.equal((await manager.get(A)).serialNumber, "2");
  await time.advance(3 * DAY);
  assert.deepEqual(changes, ["a:1", "a:2", "a:3", "a:4", "a:5", "a:6", "a:7", "a:8"]);
  manager.close();
  assert.equal(time.sleeping, 0);
});

test("half of the life counts from the certificate's own beginning, with jitter", async () => {
  for (const [random, part] of [
    [0, 0.45],
    [0.5, 0.5],
    [0.999999, 0.55],
  ] as const) {
    const { time, source, manager } = setUp({ random: () => random });
    source.backdateMs = HOUR;
    await manager.get(A);
    await time.advance(DAY * part - HOUR - 10);
    assert.equal(source.requests.length, 1, `random ${random}`);
    await time.advance(20);
    assert.equal(source.requests.length, 2, `random ${random}`);
    manager.close();
  }
});

test("an authority that hands out nearly expired certificates is asked once a second, not in a loop", async () => {
  const { time, source, manager } = setUp();
  source.lifeMs = HOUR;
  source.backdateMs = HOUR - 10_000;
  await manager.get(A);
  await time.advance(5_000);
  assert.ok(source.requests.length >= 5 && source.requests.length <= 6, `${source.requests.length} requests`);
  manager.close();
});

test("priority: who waits comes before what may be needed, and that before what grows old", async () => {
  const { time, source, manager } = setUp({ concurrency: 1 });
  source.lifeMs = HOUR;
  await manager.get(identity("old"));
  source.hold();
  manager.warm(identity("busy"));
  await time.advance(HOUR / 2);
  manager.warm(identity("warm"));
  const waiting = manager.get(identity("now"));
  assert.deepEqual(manager.load, { active: 1, queued: 3 });
  for (let i = 0; i < 4; i++) {
    source.release(1);
    await time.settle();
  }
  assert.deepEqual(source.requests, ["old", "busy", "now", "warm", "old"]);
  assert.equal((await waiting).identity.serviceAccount, "now");
  manager.close();
});

test("warmup_new: a warmed identity is there before it is asked for", async () => {
  const { time, source, manager } = setUp();
  manager.warm(A);
  await time.settle();
  assert.equal(manager.current(A)?.serialNumber, "1");
  await manager.get(A);
  assert.deepEqual(source.requests, ["a"]);
  manager.close();
});

test("warmup_existing: warming what is there does nothing, and a caller makes a warming one urgent", async () => {
  const { time, source, manager } = setUp({ concurrency: 1 });
  await manager.get(A);
  manager.warm(A);
  source.hold();
  for (const name of ["x", "y", "z"]) manager.warm(identity(name));
  const urgent = manager.get(identity("z"));
  source.release();
  assert.ok(await urgent);
  await time.settle();
  assert.deepEqual(source.requests, ["a", "x", "z", "y"]);
  manager.close();
});

test("duplicate_requests: callers of one identity share one request", async () => {
  const { source, manager } = setUp();
  source.hold();
  const callers = Array.from({ length: 50 }, () => manager.get(A));
  source.release();
  const serials = new Set((await Promise.all(callers)).map((one) => one.serialNumber));
  assert.deepEqual([...serials], ["1"]);
  assert.deepEqual(source.requests, ["a"]);
  manager.close();
});

test("concurrency: eight requests at a time", async () => {
  const { time, source, manager } = setUp();
  source.hold();
  const all = Array.from({ length: 20 }, (_, i) => manager.get(identity(`${i}`)));
  await time.settle();
  assert.deepEqual(manager.load, { active: 8, queued: 12 });
  assert.equal(source.requests.length, 8);
  source.release(3);
  await time.settle();
  assert.deepEqual(manager.load, { active: 8, queued: 9 });
  source.release();
  await Promise.all(all);
  assert.equal(source.requests.length, 20);
  manager.close();
});

test("unused_cleanup: closing ends every wait and every timer", async () => {
  const { time, source, manager } = setUp();
  await manager.get(A);
  source.hold();
  const waiting = manager.get(B);
  manager.close();
  await assert.rejects(waiting, /no longer needed/);
  await time.settle();
  assert.equal(time.sleeping, 0);
  assert.deepEqual(manager.entries(), []);
  await assert.rejects(manager.get(A), /closed/);
});

test("forget: a forgotten identity is not renewed, and fetched anew when it is asked for", async () => {
  const { time, source, manager } = setUp();
  await manager.get(A);
  manager.forget(A);
  assert.equal(manager.current(A), undefined);
  await time.advance(2 * DAY);
  assert.deepEqual(source.requests, ["a"]);
  assert.equal((await manager.get(A)).serialNumber, "2");
  manager.close();
});

test("forget_pending: who waits for a forgotten identity is told, and its answer is dropped", async () => {
  const { time, source, manager, changes } = setUp();
  source.hold();
  const waiting = manager.get(A);
  manager.forget(A);
  await assert.rejects(waiting, { code: "IDENTITY_UNAVAILABLE", message: "the identity is no longer needed" });
  source.release();
  await time.settle();
  assert.deepEqual(changes, []);
  assert.equal(manager.current(A), undefined);
  manager.close();
});

test("without a valid certificate a failure reaches every waiter at once; a later one cuts the back-off short, once in 250 ms", async () => {
  const { time, source, manager, stateOf } = setUp();
  source.failure = "signing gRPC error (Unavailable): no";
  const waiting = [manager.get(A), manager.get(A)];
  for (const one of waiting) await assert.rejects(one, { message: source.failure, code: "IDENTITY_UNAVAILABLE" });
  assert.equal(stateOf(A), `unavailable: ${source.failure}`);
  await assert.rejects(manager.get(A, "background"), { message: source.failure });
  assert.deepEqual(source.requests, ["a"]);
  const later = [manager.get(A), manager.get(A)].map((one) => assert.rejects(one, { message: source.failure ?? "" }));
  await time.advance(249);
  assert.deepEqual(source.requests, ["a"]);
  await time.advance(1);
  await Promise.all(later);
  assert.deepEqual(source.requests, ["a", "a"]);
  source.failure = undefined;
  const last = manager.get(A);
  await time.advance(250);
  assert.equal((await last).serialNumber, "1");
  assert.equal(stateOf(A), "available");
  manager.close();
});

test("backoff_resets_after_success: 1, 2, 4 … 150 s with ±20 %, and from 1 s again after a success", async () => {
  const { time, source, manager } = setUp();
  source.failure = "no";
  await assert.rejects(manager.get(A));
  const delays: number[] = [];
  for (let i = 0; i < 10; i++) {
    delays.push(time.untilNext ?? 0);
    await time.advance(time.untilNext ?? 0);
  }
  assert.deepEqual(
    delays,
    [1, 2, 4, 8, 16, 32, 64, 128, 150, 150].map((seconds) => seconds * 1000),
  );
  source.failure = undefined;
  await time.advance(150_000);
  source.failure = "no again";
  await time.advance(DAY / 2);
  assert.equal(time.untilNext, 1_000);
  manager.close();
  for (const [random, expected] of [
    [0, 800],
    [0.999999999, 1_200],
  ] as const) {
    const other = setUp({ random: () => random });
    other.source.failure = "no";
    await assert.rejects(other.manager.get(A));
    assert.equal(Math.round(other.time.untilNext ?? 0), expected);
    other.manager.close();
  }
});

test("certificate_retention_on_refresh_failure: a certificate serves until its end, and not a moment longer", async () => {
  const { time, source, manager, changes, stateOf } = setUp();
  source.lifeMs = HOUR;
  await manager.get(A);
  source.failure = "the authority is down";
  await time.advance(HOUR - 1);
  assert.equal((await manager.get(A)).serialNumber, "1");
  assert.equal(stateOf(A), "available");
  await time.advance(1);
  assert.equal(manager.current(A), undefined);
  assert.equal(stateOf(A), "unavailable: the authority is down");
  const refused = assert.rejects(manager.get(A), /the authority is down/);
  await time.advance(250);
  await refused;
  assert.deepEqual(changes, ["a:1", "a:none"]);
  source.failure = undefined;
  await time.advance(150_000);
  assert.deepEqual(changes, ["a:1", "a:none", "a:2"]);
  manager.close();
});

test("a certificate that expired on its way is not used", async () => {
  const { source, manager, stateOf } = setUp();
  source.lifeMs = 0;
  await assert.rejects(manager.get(A), /has expired already/);
  assert.match(stateOf(A) ?? "", /^unavailable/);
  manager.close();
});

test("stress_caching: many identities, many callers, changing luck", async () => {
  const { time, source, manager } = setUp();
  source.lifeMs = HOUR;
  for (let round = 0; round < 40; round++) {
    source.failure = round % 5 === 4 ? "bad luck" : undefined;
    const who = Array.from({ length: 30 }, (_, i) => manager.get(identity(`${(i * 7 + round) % 60}`)));
    const settled = Promise.allSettled(who);
    await time.advance(250);
    await settled;
    for (let i = 0; i < 5; i++) manager.forget(identity(`${(round * 11 + i) % 60}`));
    await time.advance(10 * 60_000);
  }
  assert.deepEqual(manager.load, { active: 0, queued: 0 });
  assert.ok(manager.entries().length <= 60);
  assert.ok(time.sleeping <= 60, "at most one wait for each identity");
  manager.close();
  await time.settle();
  assert.equal(time.sleeping, 0);
});

test("identities are bounded", async () => {
  const { manager } = setUp();
  for (let i = 0; i < 4096; i++) manager.warm(identity(`${i}`));
  await assert.rejects(manager.get(identity("one too many")), /4096 identities already/);
  manager.close();
});

test("a listener that throws harms nobody", async () => {
  const { manager, changes } = setUp();
  manager.subscribe(() => {
    throw new Error("oops");
  });
  manager.subscribe((who) => changes.push(`later ${who.serviceAccount}`));
  await manager.get(A);
  assert.deepEqual(changes, ["a:1", "later a"]);
  manager.close();
});
