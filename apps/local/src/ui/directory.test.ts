import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UserError } from "../user-error.ts";
import { checkDirectory, DirectoryReport, refuseProblems } from "./directory.ts";

const PROBLEM = { file: "a.yaml", line: 3, message: "metadata.nam is not supported" };

function thrown(action: () => void): { readonly message: string; readonly next: string | undefined } {
  try {
    action();
  } catch (error) {
    if (error instanceof UserError) return { message: error.message, next: error.next };
    throw error;
  }
  throw new Error("nothing was thrown");
}

test("a directory that cannot be used is told with what to do", () => {
  const next = "name a directory of Kubernetes YAML: tulle up DIR";
  const file = import.meta.filename;
  assert.deepEqual(
    thrown(() => checkDirectory("/nodir")),
    { message: "there is no directory /nodir", next },
  );
  assert.deepEqual(
    thrown(() => checkDirectory(file)),
    { message: `${file} is no directory`, next },
  );
  assert.deepEqual(thrown(() => checkDirectory(`${file}/x`)).next, next);

  const own = mkdtempSync(join(tmpdir(), "tulle-directory-"));
  try {
    chmodSync(own, 0o700);
    assert.match(thrown(() => checkDirectory(own)).message, /cannot read \S+: chmod o\+rx \S+$/);
    chmodSync(own, 0o755);
    checkDirectory(own);
  } finally {
    rmdirSync(own);
  }
});

test("problems at the start are listed, with what to do", () => {
  refuseProblems([]);
  assert.deepEqual(
    thrown(() => refuseProblems([PROBLEM])),
    {
      message: "one problem in the directory:\n  a.yaml:3: metadata.nam is not supported",
      next: "correct these lines and start again",
    },
  );
});

test("problems while it runs are told once, and their end", () => {
  const notes: string[] = [];
  const nothing = () => {};
  const report = new DirectoryReport({
    note: (text) => void notes.push(text),
    fail: nothing,
    step: () => ({ update: nothing, done: nothing }),
  });
  report.tell({ changes: 1 }, [PROBLEM], false);
  report.tell({ changes: 0 }, [PROBLEM], false);
  report.tell({ changes: 0 }, [], false);
  report.tell({ changes: 1 }, [], false);
  report.tell({ changes: 0 }, [], false);
  assert.deepEqual(notes, [
    "one problem in the directory:\n  a.yaml:3: metadata.nam is not supported\n" +
      "  next: correct these lines and save; until then what was good before stays in force",
    "✓ the directory is fine again",
    "✓ the directory has changed, and that is in force",
  ]);
});
