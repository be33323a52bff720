import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { bundle } from "./bundle.ts";

const folder = mkdtempSync(join(tmpdir(), "tulle-bundle-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What a bundle of these modules prints. */
function run(files: Readonly<Record<string, string>>): string {
  const place = mkdtempSync(join(folder, "case-"));
  for (const [name, text] of Object.entries({ "package.json": '{"type":"module"}', ...files })) {
    mkdirSync(dirname(join(place, name)), { recursive: true });
    writeFileSync(join(place, name), text);
  }
  const script = join(place, "bundle.cjs");
  writeFileSync(script, bundle(join(place, "main.ts")));
  return execFileSync(process.execPath, [script], { encoding: "utf8", timeout: 30_000 }).trim();
}

test("modules import each other by name, under other names, all together and through an index", () => {
  const output = run({
    "main.ts": `import { type Shape, area as size, Square } from "./shapes/index.ts";
import * as names from "./names.ts";
import {
  join,
} from "node:path";
const shape: Shape = new Square(3);
console.log(join("a", "b"), size(shape), names.NAME, "import { x } from nowhere");`,
    "names.ts": "export const NAME: string = `x${1 + 1}`;",
    "shapes/index.ts": `export * from "./square.ts";\nexport * from "./area.ts";`,
    "shapes/square.ts": `import type { Shape } from "./area.ts";
export class Square implements Shape { readonly side: number; constructor(side: number) { this.side = side; } }`,
    "shapes/area.ts":
      "export interface Shape { readonly side: number }\nexport function area({ side }: Shape): number { return side * side; }",
  });
  assert.equal(output, "a/b 9 x2 import { x } from nowhere");
});

test("a module that is imported later is loaded later", () => {
  const main = `const { sep } = await_(import("node:path"));
function await_(p: Promise<{ sep: string }>) { void p.then((m) => console.log(m.sep)); return { sep: "first" }; }
console.log(sep);`;
  assert.equal(run({ "main.ts": main }), "first\n/");
});

for (const [what, files, message] of [
  ["a default export", { "main.ts": "export default 1;" }, /not known: export default/],
  ["a list of exports", { "main.ts": "const a = 1;\nexport { a };" }, /not known: export \{/],
  ["import.meta", { "main.ts": "console.log(import.meta.url);" }, /not known: import\.meta/],
  [
    "a cycle",
    { "main.ts": `import { a } from "./a.ts";\nconsole.log(a);`, "a.ts": `import "./main.ts";\nexport const a = 1;` },
    /imports itself/,
  ],
  ["a module that is not there", { "main.ts": `import "./gone.ts";` }, /gone\.ts, which is not there/],
] as readonly (readonly [string, Record<string, string>, RegExp])[]) {
  test(`refused: ${what}`, () => assert.throws(() => run(files), message));
}
