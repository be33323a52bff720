import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type TarEntry, tarOf } from "./tar.ts";

function file(path: string, text = "x", mode?: number): TarEntry {
  return { kind: "file", path, data: Buffer.from(text), ...(mode !== undefined && { mode }) };
}

function listed(archive: Buffer): string[] {
  const folder = mkdtempSync(join(tmpdir(), "tulle-tar-"));
  try {
    const path = join(folder, "x.tar");
    writeFileSync(path, archive);
    const options = ["--list", "--verbose", "--numeric-owner", "--utc", "--full-time", "--file", path];
    return execFileSync("tar", options, { encoding: "utf8" })
      .trim()
      .split("\n")
      .map((line) => line.replaceAll(/ +/g, " "));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test("tar reads what is written: files, folders, links, modes, owner and time", () => {
  const archive = tarOf([
    file("usr/bin/tool", "12345", 0o755),
    { kind: "symlink", path: "bin", target: "usr/bin" },
    { kind: "directory", path: "tmp", mode: 0o1777 },
  ]);
  assert.deepEqual(listed(archive), [
    "lrwxrwxrwx 0/0 0 1970-01-01 00:00:00 bin -> usr/bin",
    "drwxrwxrwt 0/0 0 1970-01-01 00:00:00 tmp/",
    "drwxr-xr-x 0/0 0 1970-01-01 00:00:00 usr/",
    "drwxr-xr-x 0/0 0 1970-01-01 00:00:00 usr/bin/",
    "-rwxr-xr-x 0/0 5 1970-01-01 00:00:00 usr/bin/tool",
  ]);
});

test("the order in which entries are given does not matter", () => {
  const entries = [file("b"), file("a/z"), file("a/b/c", "y".repeat(1000))];
  assert.ok(tarOf(entries).equals(tarOf(entries.toReversed())));
});

test("a path of more than 100 bytes is kept whole", () => {
  const path = `${"folder/".repeat(20)}file`;
  assert.ok(listed(tarOf([file(path)])).some((line) => line.endsWith(` ${path}`)));
});

for (const [what, entries, message] of [
  ["a path that leaves the archive", [file("a/../../b")], /no relative path/],
  ["an absolute path", [file("/a")], /no relative path/],
  ["a path that is given twice", [file("a"), file("a")], /twice/],
  ["a file in a file", [file("a"), file("a/b")], /lies below a/],
  ["a name that does not fit", [file("x".repeat(101))], /too long/],
] as const) {
  test(`refused: ${what}`, () => assert.throws(() => tarOf(entries), message));
}
