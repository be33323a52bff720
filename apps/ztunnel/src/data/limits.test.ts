import assert from "node:assert/strict";
import { test } from "node:test";
import { AdmissionControl, createPodCounters, MAX_PODS, PodBudget } from "./limits.ts";

const limits = {
  connectionsPerPod: 2,
  bufferedBytesPerPod: 100,
  unauthenticatedPerListener: 3,
  unauthenticatedPerSource: 2,
};

test("a pod's budget is shared by all threads and separate from other pods'", () => {
  const counters = createPodCounters();
  const thread1 = new PodBudget(new Int32Array(counters), 7, limits);
  const thread2 = new PodBudget(new Int32Array(counters), 7, limits);
  const neighbour = new PodBudget(new Int32Array(counters), MAX_PODS - 1, limits);
  assert.ok(thread1.takeConnection());
  assert.ok(thread2.takeConnection());
  assert.ok(!thread1.takeConnection(), "the third is one too many");
  assert.equal(thread2.connections, 2, "a refused connection is not counted");
  assert.ok(neighbour.takeConnection());
  thread2.giveConnection();
  assert.ok(thread1.takeConnection());
});

test("buffered bytes are refused beyond the limit and can be given back", () => {
  const budget = new PodBudget(new Int32Array(createPodCounters()), 0, limits);
  assert.ok(budget.tryTake(60));
  assert.ok(!budget.tryTake(41));
  assert.equal(budget.bufferedBytes, 60);
  assert.ok(budget.tryTake(40));
  budget.give(100);
  assert.equal(budget.bufferedBytes, 0);
});

test("unauthenticated connections are bounded by source and in total", () => {
  const admission = new AdmissionControl(limits);
  assert.equal(admission.enter("10.0.0.1"), undefined);
  assert.equal(admission.enter("10.0.0.1"), undefined);
  assert.equal(admission.enter("10.0.0.1"), "source", "one source may not take all places");
  assert.equal(admission.enter("10.0.0.2"), undefined);
  assert.equal(admission.enter("10.0.0.3"), "listener", "the listener is full");
  admission.leave("10.0.0.1");
  assert.equal(admission.enter("10.0.0.3"), undefined);
  admission.leave("10.0.0.9");
  assert.equal(admission.total, 3, "an unknown source cannot free a place");
});
