import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkDataThreads, checkFile, type Workspace } from "./import-rules.ts";

const workspace: Workspace = {
  entries: new Map(
    ["base", "linux", "lab", "reactor", "tls", "h2", "mesh", "testkit", "store"].map((name) => [
      `@tulle/${name}`,
      `packages/${name}/src/index.ts`,
    ]),
  ),
  byFolder: new Map([["packages/xds", new Set(["@connectrpc/connect"])]]),
  development: new Set(["fast-check"]),
};

/** What the rules say about `source` if it stood in `file`. */
function problems(file: string, source: string): string[] {
  return checkFile(file, source, workspace).map((violation) => `${violation.line}: ${violation.text}`);
}

describe("import rules", () => {
  const allowed: readonly (readonly [file: string, source: string])[] = [
    ["packages/h2/src/a.ts", 'import { x } from "@tulle/reactor";\nimport { y } from "./b.ts";'],
    ["packages/linux/src/a.ts", 'import ffi from "node:ffi";\nbuffer.pointer;'],
    ["packages/linux/src/a.test.ts", 'import { x } from "@tulle/lab";\nimport fc from "fast-check";'],
    ["packages/xds/src/a.ts", 'import { x } from "@connectrpc/connect";\nasync () => await Promise.all([]);'],
    ["packages/mesh/src/convert/a.ts", "const x = async () => {};"],
    ["packages/h2/src/a.ts", '// await the console.log of a Promise\nconst x = "await Promise" + `await ${1} async`;'],
    ["packages/h2/src/a.ts", "const x = /await (\"|')/.test(y) ? a / b : c / d; const z = 1;"],
    ["apps/cli/src/a.ts", 'import { x } from "@tulle/lab";'],
    ["apps/local/src/a.ts", 'const main = new URL("../../ztunnel/src/main.ts", import.meta.url);'],
    ["test/a.test.ts", 'import { x } from "../apps/ztunnel/src/data/thread.ts";'],
  ];
  for (const [file, source] of allowed) {
    test(`${file} may hold ${JSON.stringify(source)}`, () => assert.deepEqual(problems(file, source), []));
  }

  const refused: readonly (readonly [file: string, source: string, expected: RegExp])[] = [
    ["packages/base/src/a.ts", 'import { x } from "@tulle/linux";', /^1: base does not stand above linux/],
    ["packages/tls/src/a.ts", 'import type { X } from "@tulle/reactor";', /^1: tls does not stand above reactor/],
    ["packages/tls/src/a.test.ts", 'import { x } from "@tulle/h2";', /^1: tls does not stand above h2/],
    ["packages/tls/src/a.ts", 'export * from "@tulle/tls/src/b.ts";', /^1: .*is no entry/],
    ["packages/tls/src/a.ts", '\nimport {\n  x,\n} from "../../pki/src/b.ts";', /^2: .*leaves packages\/tls/],
    ["packages/reactor/src/a.ts", 'import ffi from "node:ffi";', /^1: node:ffi belongs/],
    ["packages/reactor/src/a.ts", "x(buffer.pointer);", /^1: a raw address/],
    ["packages/reactor/src/a.ts", "x(`${buffer.pointer}`);", /^1: a raw address/],
    ["packages/pki/src/a.ts", 'import { x } from "@tulle/testkit";', /^1: only tests/],
    ["packages/xds/src/a.ts", 'import fc from "fast-check";', /^1: fast-check is not among/],
    ["packages/xds/src/a.ts", 'const x = await import("left-pad");', /^1: left-pad is not among/],
    ["packages/xds/src/a.ts", 'import { x } from "@tulle/nowhere";', /^1: .*is no entry/],
    ["apps/cli/src/a.ts", 'import { x } from "../../local/src/a.ts";', /^1: .*leaves apps\/cli/],
    [
      "apps/local/src/a.ts",
      'new Worker(new URL("../../ztunnel/src/x.ts", import.meta.url));',
      /^1: .*leaves apps\/local/,
    ],
    ["apps/ztunnel/src/a.ts", 'import { x } from "@tulle/store";', /^1: ztunnel does not import store/],
    ["apps/ztunnel/src/data/a.ts", "async function f() {}", /^1: async functions do not work/],
    ["packages/h2/src/a.ts", "\nconst p = new Promise(f);", /^2: promises do not work/],
    ["packages/mesh/src/a.ts", "setTimeout(f, 1);", /^1: Node's timers/],
    ["packages/hbone/src/a.ts", 'console.log("x");', /^1: the console/],
  ];
  for (const [file, source, expected] of refused) {
    test(`${file} may not hold ${JSON.stringify(source)}`, () => {
      const found = problems(file, source);
      assert.equal(found.length, 1, found.join("\n"));
      assert.match(found[0] ?? "", expected);
    });
  }
});

describe("data threads", () => {
  /** A repository of a data thread that imports @tulle/mesh, whose index is `index`. */
  function reached(index: string): string[] {
    const sources: Record<string, string> = {
      "apps/ztunnel/src/data/thread.ts": 'import { x } from "@tulle/mesh";',
      "apps/ztunnel/src/data/thread.test.ts": 'import { y } from "yaml";',
      "packages/mesh/src/index.ts": index,
      "packages/mesh/src/file.ts": 'import { parse } from "yaml";',
    };
    return checkDataThreads(Object.keys(sources), (file) => sources[file], workspace).map(
      ({ file, text }) => `${file} ${text}`,
    );
  }

  test("an npm package that is reached through an index is reported where it is imported", () => {
    assert.match(reached('export * from "./file.ts";')[0] ?? "", /^packages\/mesh\/src\/file\.ts yaml: data threads/);
  });
  test("an import of types loads nothing", () => {
    assert.deepEqual(reached('import type { X } from "./file.ts";\nexport type { Y } from "./file.ts";'), []);
  });
  test("a module that needs Node's loop is reported, isIP is not", () => {
    assert.match(reached('import { connect } from "node:net";')[0] ?? "", /node:net/);
    assert.match(reached('import { setTimeout } from "node:timers/promises";')[0] ?? "", /node:timers/);
    assert.deepEqual(reached('import { isIP } from "node:net";'), []);
  });
});
