import { workerData } from "node:worker_threads";
import { RingProducer } from "./record-ring.ts";

/** The other thread of the ring's concurrency test. */
const { memory, total } = workerData as { readonly memory: SharedArrayBuffer; readonly total: number };
const producer = new RingProducer(memory);
for (let i = 0; i < total; i++) producer.write(1 + (i % 2), `${i} ${"z".repeat(i % 300)}`, i % 10 === 0);
