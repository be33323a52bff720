import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { LogWriter } from "./log-writer.ts";

const directory = mkdtempSync(join(tmpdir(), "log-writer-"));
after(() => rmSync(directory, { recursive: true }));

/** A FIFO that nobody reads from until `read` is called. */
async function stalledPipe(name: string) {
  const path = join(directory, name);
  await new Promise((done) => spawn("mkfifo", [path]).on("exit", done));
  // Opened for both, so that neither end waits for the other.
  return { path, descriptor: openSync(path, "r+") };
}

describe("the log writer", () => {
  it("writes lines in order and tells when they are out", async () => {
    const path = join(directory, "plain.log");
    const descriptor = openSync(path, "w");
    const writer = new LogWriter({ descriptor });
    const lines = Array.from({ length: 3000 }, (_, i) => `line ${i} ${"x".repeat(i % 100)}\n`);
    for (const line of lines) assert.equal(writer.line(line, false), true);
    await writer.flush();
    assert.equal(readFileSync(path, "utf8"), lines.join(""));
    assert.equal(writer.dropped, 0);
    closeSync(descriptor);
  });

  it("never waits for a reader that stalls: it drops and counts, and keeps room for important lines", async () => {
    const { path, descriptor } = await stalledPipe("stalled");
    const writer = new LogWriter({ descriptor, maxBytes: 400_000 });
    const line = `${"x".repeat(999)}\n`;
    let accepted = 0;
    for (let i = 0; i < 1000; i++) if (writer.line(line, false)) accepted++;
    assert.ok(accepted >= 350 && accepted < 500, `${accepted} lines were accepted`);
    assert.equal(writer.dropped, 1000 - accepted);
    assert.equal(writer.line("important\n", true), true);
    // The reader comes back: everything that was accepted arrives.
    const reader = openSync(path, "r");
    const expected = accepted * line.length + "important\n".length;
    const text = await readExactly(reader, expected);
    assert.equal(text, line.repeat(accepted) + "important\n");
    await writer.flush();
    assert.equal(writer.line(line, false), true);
    await writer.flush();
    closeSync(reader);
    closeSync(descriptor);
  });

  it("survives a reader that has gone", async () => {
    const { path, descriptor: both } = await stalledPipe("gone");
    const descriptor = openSync(path, "w");
    closeSync(both);
    const writer = new LogWriter({ descriptor });
    assert.equal(writer.line("to nobody\n", false), true);
    await writer.flush();
    assert.equal(writer.dropped, 1);
    closeSync(descriptor);
  });

  it("writes what waits before the process ends", () => {
    const path = join(directory, "final.log");
    const descriptor = openSync(path, "w");
    const writer = new LogWriter({ descriptor });
    const big = `${"y".repeat(70_000)}\n`;
    writer.line(big, false);
    writer.flushSync();
    closeSync(descriptor);
    // The chunk whose asynchronous write had begun is not written twice.
    assert.ok(readFileSync(path, "utf8").endsWith("y\n"));
  });
});

async function readExactly(descriptor: number, length: number): Promise<string> {
  const { read } = await import("node:fs");
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    at += await new Promise<number>((resolve, reject) => {
      read(descriptor, bytes, at, length - at, null, (error, count) => (error ? reject(error) : resolve(count)));
    });
  }
  return bytes.toString();
}
