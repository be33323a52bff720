import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { VERSION } from "../src/version.ts";

/**
 * Compares `text` with the file `apps/cli/test/golden/NAME`; our own version is written <version> there. With
 * TULLE_UPDATE_GOLDEN=1 the file is written instead: read the difference before committing it.
 */
export function assertGolden(name: string, text: string): void {
  const path = join(import.meta.dirname, "golden", name);
  // Not inside of another number: 10.1.0.0/16 is no version.
  const actual = text.replaceAll(new RegExp(`(?<![\\d.])${RegExp.escape(VERSION)}(?!\\.?\\d)`, "g"), "<version>");
  if (process.env["TULLE_UPDATE_GOLDEN"] === "1") {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, actual);
    return;
  }
  assert.equal(actual, readFileSync(path, "utf8"), `${name} differs; TULLE_UPDATE_GOLDEN=1 writes it anew`);
}
