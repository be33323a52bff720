import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { after, test } from "node:test";
import { resolveImport } from "./resolve-module.ts";

const folder = realpathSync(mkdtempSync(join(tmpdir(), "tulle-resolve-")));
after(() => rmSync(folder, { recursive: true, force: true }));

const PACKAGES: Readonly<Record<string, unknown>> = {
  plain: { main: "lib.js" },
  exporting: {
    exports: {
      ".": { types: "./lib.d.ts", require: "./lib.cjs", import: "./lib.js" },
      "./one": "./one.js",
      "./many/*": "./many/*.js",
      "./many/deep/*": "./deep/*.js",
      "./secret/*": null,
    },
  },
  "@scope/conditional": { exports: { browser: "./no.js", node: { import: "./lib.js" } } },
  own: { name: "own", exports: "./lib.js", imports: { "#part": "./one.js", "#other": "plain" } },
};
for (const [name, json] of Object.entries(PACKAGES)) {
  for (const file of ["lib.js", "lib.cjs", "one.js", "many/a.js", "deep/a.js", "secret/a.js"]) {
    mkdirSync(dirname(join(folder, "node_modules", name, file)), { recursive: true });
    writeFileSync(join(folder, "node_modules", name, file), "");
  }
  writeFileSync(join(folder, "node_modules", name, "package.json"), JSON.stringify(json));
}
writeFileSync(join(folder, "package.json"), "{}");

for (const [specifier, importer, expected] of [
  ["plain", "main.ts", "plain/lib.js"],
  ["plain/one.js", "main.ts", "plain/one.js"],
  ["exporting", "main.ts", "exporting/lib.js"],
  ["exporting/one", "main.ts", "exporting/one.js"],
  ["exporting/many/a", "main.ts", "exporting/many/a.js"],
  ["exporting/many/deep/a", "main.ts", "exporting/deep/a.js"],
  ["exporting/lib.js", "main.ts", undefined],
  ["exporting/secret/a", "main.ts", undefined],
  ["@scope/conditional", "main.ts", "@scope/conditional/lib.js"],
  ["#part", "node_modules/own/lib.js", "own/one.js"],
  ["#other", "node_modules/own/lib.js", "plain/lib.js"],
  ["own", "node_modules/own/one.js", "own/lib.js"],
  ["gone", "main.ts", undefined],
] as const) {
  test(`${specifier} of ${importer}: ${expected ?? "none"}`, () => {
    const found = resolveImport(specifier, join(folder, importer));
    assert.equal(found && relative(join(folder, "node_modules"), found), expected);
  });
}
