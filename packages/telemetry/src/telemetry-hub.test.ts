import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, createReadStream, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import { createDataTelemetry } from "./data-telemetry.ts";
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

  it("lets a thread drop lines rather than wait when nobody reads the log, and says so afterwards", async () => {
    const path = join(directory, "stalled");
    execFileSync("mkfifo", [path]);
    const descriptor = openSync(path, "r+");
    const writer = new LogWriter({ descriptor, maxBytes: 300_000 });
    const hub = new TelemetryHub({ format: "plain", filter: filter("info"), writer });
    const thread = createDataTelemetry(hub.addThread());
    const text = "x".repeat(1000);
    const dropped = async () =>
      /lines_dropped_total\{thread="0"\} (\d+)/.exec([...(await hub.metricsText())].join(""))?.[1];
    let rounds = 0;
    // The pipe, the writer and the ring fill up; then lines are dropped.
    while ((await dropped()) === undefined) {
      for (let i = 0; i < 100; i++) thread.log.info(text);
      await new Promise((done) => setTimeout(done, 5));
      assert.ok(rounds++ < 200);
    }
    thread.log.warn("important");
    let read = "";
    const reader = createReadStream(path, { fd: openSync(path, "r"), encoding: "utf8" });
    reader.on("data", (chunk) => {
      read += chunk;
    });
    while (!read.includes("important") || !read.includes("log lines were dropped")) {
      await new Promise((done) => setTimeout(done, 5));
      thread.log.info("go on");
    }
    assert.match(read, /log lines were dropped, because .*\tlines=\d+\n/);
    await hub.close();
    reader.destroy();
    closeSync(descriptor);
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
