import assert from "node:assert/strict";
import { test } from "node:test";
import { progressLog, terminalProgress } from "./progress.ts";

function recorder(isTTY: boolean) {
  let text = "";
  const progress = terminalProgress({ isTTY, write: (piece: string) => (text += piece) });
  return { progress, shown: () => text.replaceAll(/\d+\.\d s/g, "T") };
}

test("without a terminal every finished step is one line", () => {
  const { progress, shown } = recorder(false);
  const step = progress.step("starting");
  step.update("1 of 2");
  step.done("2 ready");
  progress.fail("something broke");
  assert.equal(shown(), "✓ starting: 2 ready (T)\n✗ something broke\n");
});

test("on a terminal a step rewrites its line, and what comes between does not tear it", () => {
  const { progress, shown } = recorder(true);
  const step = progress.step("starting");
  step.update("1 of 2");
  progress.note("by the way");
  step.done();
  const clear = "\r\x1b[2K";
  assert.equal(
    shown(),
    `… starting${clear}… starting: 1 of 2${clear}by the way\n… starting: 1 of 2${clear}✓ starting (T)\n`,
  );
});

test("a log shows warnings and errors with their scope, nothing else", () => {
  const { progress, shown } = recorder(false);
  const log = progressLog(progress).scope("ca");
  log.info("working");
  log.warn("refused", { peer: "10.0.0.1" });
  log.error("broken");
  assert.equal(shown(), "! ca: refused peer=10.0.0.1\n✗ ca: broken\n");
});
