import { workerData } from "node:worker_threads";
import { createDataTelemetry } from "./data-telemetry.ts";
import type { ThreadTelemetry } from "./thread-telemetry.ts";

/** A data thread for the hub's test: counts, logs, and waits between commands without ever returning to its loop. */
const { memory, gate } = workerData as { readonly memory: ThreadTelemetry; readonly gate: SharedArrayBuffer };
const telemetry = createDataTelemetry(memory);
const word = new Int32Array(gate);
telemetry.count("connect_retries", 5);
for (let step = 0; Atomics.load(word, 0) >= 0; step++) {
  telemetry.turn();
  telemetry.log.scope("dns").debug("step", { step });
  telemetry.log.info("step", { step });
  telemetry.accessLog({
    event: "opened",
    direction: "inbound",
    sourceAddress: "10.0.0.1:1",
    destinationAddress: "10.0.0.2:2",
  });
  Atomics.store(word, 1, step + 1);
  Atomics.notify(word, 1);
  Atomics.wait(word, 0, step);
}
