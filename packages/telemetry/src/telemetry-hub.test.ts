import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { LogFilter } from "./log-filter.ts";
import { LogWriter } from "./log-writer.ts";
import { TelemetryHub } from "./telemetry-hub.ts";

const directory = mkdtempSync(join(tmpdir(), "telemetry-hub-"));
after(() => rmSync(directory, { recursive: true }));

function filter(text: string): LogFilter {
  const parsed = LogFilter.parse(text);
  assert.ok(parsed instanceof LogFilter);
  return parsed;
}

function fixedWall(): number {
  return Date.UTC(2027, 0, 1);
}

describe("the telemetry hub", () => {
  it("brings lines, counters, level changes and signs of life across the threads", async () => {
    const path = join(directory, "log");
    const descriptor = openSync(path, "w");
    const hub = new TelemetryHub({
      format: "plain",
      filter: filter("info"),
      writer: new LogWriter({ descriptor }),
      wall: fixedWall,
    });
    const memory = hub.addThread();
    const gate = new SharedArrayBuffer(8);
    const word = new Int32Array(gate);
    const worker = new Worker(new URL("./telemetry-hub-thread.ts", import.meta.url), { workerData: { memory, gate } });
    const exit = once(worker, "exit");
    const step = async (number: number) => {
      Atomics.store(word, 0, number);
      Atomics.notify(word, 0);
      while (Atomics.load(word, 1) <= number) await new Promise((done) => setTimeout(done, 1));
    };
    const logged = async (text: RegExp) => {
      while (!text.test(readFileSync(path, "utf8"))) await new Promise((done) => setTimeout(done, 1));
    };

    await step(0);
    await logged(/step=0/);
    hub.log.warn("from main");
    hub.setFilter(filter("access=debug,dns=debug,warn"));
    await step(1);
    await logged(/access/);
    assert.deepEqual(hub.turns(), [2]);
    const metrics = [...(await hub.metricsText())].join("");
    assert.match(metrics, /^tulle_connect_retries_total 5$/m);
    assert.match(metrics, /^tokio_num_workers 1$/m);
    assert.match(metrics, /^tokio_worker_total_busy_duration_seconds_total\{worker="0"\} 0\.\d+$/m);
    assert.match(metrics, /^tokio_worker_park_count_total\{worker="0"\} [1-9]\d*$/m);
    assert.match(metrics, /^process_open_fds [1-9]\d*$/m);

    await Promise.all([exit, step(-1)]);
    await hub.close();
    closeSync(descriptor);
    const lines = readFileSync(path, "utf8").split("\n");
    assert.deepEqual(
      lines.map((line) => line.replace(/^\S+\t/, "")),
      [
        "info\tztunnel\tstep\tstep=0",
        "warn\tztunnel\tfrom main\t",
        "debug\tdns\tstep\tstep=1",
        'debug\taccess\tconnection opened\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:2 direction="inbound"',
        "",
      ],
    );
    assert.ok(lines[1]?.startsWith("2027-01-01T00:00:00.000000Z\t"));
  });

  it("ends although nobody reads the log", async () => {
    const hub = new TelemetryHub({
      format: "json",
      filter: filter("info"),
      writer: new LogWriter({ descriptor: 9999 }),
    });
    hub.addThread();
    hub.log.info("lost");
    await hub.close();
  });
});
