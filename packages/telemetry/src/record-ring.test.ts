import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { createRing, MAX_RECORD_BYTES, RingConsumer, RingProducer } from "./record-ring.ts";

function ring(capacity = 2 * MAX_RECORD_BYTES, reserved = 2048) {
  const memory = createRing({ capacity, reserved });
  return { producer: new RingProducer(memory), consumer: new RingConsumer(memory) };
}

function take(consumer: RingConsumer): string[] {
  const taken: string[] = [];
  consumer.drain((kind, bytes, start, end) => {
    taken.push(`${kind}:${bytes.toString("utf8", start, end)}`);
    return true;
  });
  return taken;
}

describe("a record ring", () => {
  it("hands records over in order, across the end of its memory", () => {
    const { producer, consumer } = ring();
    for (let round = 0; round < 500; round++) {
      const lines = [1, 2, 3].map((i) => `${round}-${i} ${"é".repeat((round * 7 + i) % 200)}`);
      for (const line of lines) assert.equal(producer.write(1, line, false), true);
      assert.deepEqual(
        take(consumer),
        lines.map((line) => `1:${line}`),
      );
    }
    assert.equal(consumer.empty, true);
  });

  it("drops and counts ordinary records when only the reserved space is left, and still takes important ones", () => {
    const { producer, consumer } = ring();
    let ordinary = 0;
    while (producer.write(1, "x".repeat(100), false)) ordinary++;
    assert.equal(ordinary, Math.floor((2 * MAX_RECORD_BYTES - 2048) / 104));
    let important = 0;
    while (producer.write(2, "y".repeat(100), true)) important++;
    assert.ok(important >= 18 && important <= 21, `${important} important records had room`);
    assert.deepEqual(consumer.dropped, { ordinary: 1, important: 1 });
    assert.equal(take(consumer).length, ordinary + important);
    assert.equal(producer.write(1, "room again", false), true);
  });

  it("cuts a record that is too long, never inside a character", () => {
    const { producer, consumer } = ring(4 * MAX_RECORD_BYTES);
    producer.write(1, `a${"€".repeat(MAX_RECORD_BYTES)}`, false);
    producer.write(1, "next", false);
    const [long = "", next] = take(consumer);
    assert.match(long, /^1:a€+$/u);
    assert.equal(Buffer.byteLength(long) - 2, MAX_RECORD_BYTES - 1);
    assert.equal(next, "1:next");
  });

  it("leaves in the ring what the consumer does not take", () => {
    const { producer, consumer } = ring();
    for (const line of ["a", "b", "c"]) producer.write(1, line, false);
    let room = 1;
    assert.equal(
      consumer.drain(() => room-- > 0),
      1,
    );
    assert.deepEqual(take(consumer), ["1:b", "1:c"]);
  });

  it("loses, repeats and mixes nothing while another thread writes as fast as it can", async () => {
    const memory = createRing({ capacity: 4 * MAX_RECORD_BYTES });
    const consumer = new RingConsumer(memory);
    const total = 40_000;
    const worker = new Worker(new URL("./record-ring-producer.ts", import.meta.url), { workerData: { memory, total } });
    const exit = once(worker, "exit");
    let expected = 0;
    let taken = 0;
    const worked = { done: false };
    void exit.then(() => {
      worked.done = true;
      consumer.wake();
    });
    while (!worked.done || !consumer.empty) {
      if (!worked.done) await consumer.wait();
      consumer.drain((kind, bytes, start, end) => {
        const [number, filler = ""] = bytes.toString("latin1", start, end).split(" ");
        assert.equal(kind, 1 + (Number(number) % 2));
        assert.ok(Number(number) >= expected, "records come in order");
        assert.equal(filler, "z".repeat(Number(number) % 300));
        expected = Number(number) + 1;
        taken++;
        return true;
      });
    }
    const { ordinary, important } = consumer.dropped;
    assert.equal(taken + ordinary + important, total);
    assert.ok(taken > 100, "most of the ring was used");
  });

  it("wakes a consumer that waits", async () => {
    const { producer, consumer } = ring();
    const waiting = consumer.wait();
    producer.write(1, "hello", false);
    await waiting;
    assert.deepEqual(take(consumer), ["1:hello"]);
  });
});
