import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { until } from "@tulle/lab";
import { Child } from "./child-process.ts";
import { LogFile } from "./log-file.ts";
import { Restarting } from "./restarting.ts";

function logIn(t: TestContext): LogFile {
  const folder = mkdtempSync(join(tmpdir(), "tulle-restarting-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return new LogFile(join(folder, "log"));
}

function restarting(log: LogFile, script: string): Restarting {
  return new Restarting({
    start: () => new Child(["sh", "-c", script], { log }),
    log,
    changed: () => {},
    restartMs: 5,
  });
}

test("a process that ends is started again, and its output and its end are in the log", async (t) => {
  const log = logIn(t);
  const process_ = restarting(log, "echo here; exit 3");
  t.after(() => process_.stop(0));
  await until(() => process_.restarts >= 2, { what: "two restarts" });
  await process_.stop(0);
  assert.match(readFileSync(log.path, "utf8"), /here\n.* process ended: exit code 3\n/);
});

test("stopping ends the process and nothing is started any more", async (t) => {
  const log = logIn(t);
  const process_ = restarting(log, "exec sleep 1000");
  await until(() => process_.child !== undefined, { what: "the process to start" });
  const pid = process_.child?.pid;
  await process_.stop(1000);
  assert.equal(process_.child, undefined);
  assert.ok(!existsSync(`/proc/${pid}`));
  assert.equal(process_.restarts, 0);
});

test("a process that ignores SIGTERM is killed when its time is over", async (t) => {
  const log = logIn(t);
  const process_ = restarting(log, "trap '' TERM; echo trapped; while :; do sleep 0.01; done");
  await until(() => existsSync(log.path) && readFileSync(log.path, "utf8").includes("trapped"), { what: "the trap" });
  await process_.stop(20);
  assert.match(readFileSync(log.path, "utf8"), /process ended: signal SIGKILL/);
});

test("a command that does not exist ends with code 127", async (t) => {
  const child = new Child(["/no/such/command"], { log: logIn(t) });
  assert.equal((await child.ended).code, 127);
});

test("a log that is full becomes the old one", (t) => {
  const log = logIn(t);
  const half = "x".repeat(3 * 1024 * 1024);
  for (const part of [half, half, "new"]) log.write(part);
  assert.equal(readFileSync(log.path, "utf8"), "new");
  assert.ok(readFileSync(`${log.path}.1`, "utf8").length > 4 * 1024 * 1024);
});
