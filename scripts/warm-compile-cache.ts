/**
 * Fills NODE_COMPILE_CACHE: imports what the processes of apps/ import, without starting any of them. A module that does
 * not load is left out and named: the process that needs it will say why.
 */
import { globSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { dirname, join } from "node:path";
import { messageOf } from "@tulle/base";

const root = dirname(import.meta.dirname);
/** Modules that start something as soon as they are imported. */
const STARTS_SOMETHING = /(^|[/-])main\.ts$/;

const files = globSync("apps/*/src/**/*.ts", { cwd: root }).filter(
  (file) => !file.endsWith(".test.ts") && !STARTS_SOMETHING.test(file),
);
for (const file of files.toSorted()) {
  try {
    await import(join(root, file));
  } catch (error) {
    console.error(`tulle: ${file} is not in the compile cache: ${messageOf(error)}`);
  }
}
flushCompileCache();
process.exit(0);
