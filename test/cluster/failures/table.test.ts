import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ASPECTS, EXPECTED, PARTS } from "./table.ts";

const DOCUMENT = join(import.meta.dirname, "..", "..", "..", "docs", "failures.md");

test("docs/failures.md has the table that the cluster is tested by, cell by cell", () => {
  const rows = readFileSync(DOCUMENT, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| "));
  const wanted = [
    ["killed", ...ASPECTS],
    ["---", ...ASPECTS.map(() => "---")],
    ...PARTS.map((part) => [`**${part}**`, ...ASPECTS.map((aspect) => EXPECTED[part][aspect])]),
  ];
  const start = rows.findIndex((line) => line.startsWith("| killed |"));
  assert.deepEqual(
    rows.slice(start, start + wanted.length).map((line) =>
      line
        .replace(/^\|-/, "| -")
        .split("|")
        .slice(1, -1)
        .map((text) => text.trim()),
    ),
    wanted,
  );
});
