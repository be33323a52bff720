import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { compileCacheFolder } from "./compile-cache.js";

const NOBODY = 65_534;

function home(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "tulle-home-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test("the cache is in the user's cache folder, made for nobody else", (t) => {
  const HOME = home(t);
  const folder = join(HOME, ".cache/tulle/compile");
  assert.equal(compileCacheFolder({ HOME }), folder);
  for (const made of [folder, join(HOME, ".cache/tulle"), join(HOME, ".cache")]) {
    assert.equal(statSync(made).mode & 0o777, 0o700, made);
  }
  assert.equal(compileCacheFolder({ HOME }), folder, "the second time it is there");

  const XDG_CACHE_HOME = join(HOME, "elsewhere");
  assert.equal(compileCacheFolder({ HOME, XDG_CACHE_HOME }), join(XDG_CACHE_HOME, "tulle/compile"));
  // Relative ones are invalid, says the specification.
  assert.equal(compileCacheFolder({ HOME, XDG_CACHE_HOME: "elsewhere" }), folder);
});

test("a folder that others may write is not used, wherever it is in the path", (t) => {
  for (const open of ["", ".cache", ".cache/tulle", ".cache/tulle/compile"]) {
    for (const mode of [0o777, 0o1777, 0o770]) {
      const HOME = home(t);
      mkdirSync(join(HOME, open), { recursive: true, mode: 0o700 });
      chmodSync(join(HOME, open), mode);
      assert.equal(compileCacheFolder({ HOME }), undefined, `${open} ${mode.toString(8)}`);
    }
  }
  const XDG_CACHE_HOME = home(t);
  chmodSync(XDG_CACHE_HOME, 0o1777);
  assert.equal(compileCacheFolder({ XDG_CACHE_HOME }), undefined);
  assert.ok(!existsSync(join(XDG_CACHE_HOME, "tulle")));
});

test("a folder of somebody else is not used: root leaves nothing in a user's home", (t) => {
  const HOME = home(t);
  if (process.geteuid?.() !== 0) {
    assert.equal(compileCacheFolder({ HOME: "/root" }), undefined);
    return;
  }
  chownSync(HOME, NOBODY, NOBODY);
  assert.equal(compileCacheFolder({ HOME }), undefined);
  assert.ok(!existsSync(join(HOME, ".cache")));
});

test("a link leads where it leads: what counts is who may write there", (t) => {
  const [HOME, other] = [home(t), home(t)];
  symlinkSync(other, join(HOME, ".cache"));
  assert.equal(compileCacheFolder({ HOME }), join(HOME, ".cache/tulle/compile"));
  chmodSync(other, 0o777);
  assert.equal(compileCacheFolder({ HOME }), undefined);
});

test("without a folder that can be made there is no cache, and no error", (t) => {
  const HOME = home(t);
  writeFileSync(join(HOME, ".cache"), "");
  assert.equal(compileCacheFolder({ HOME }), undefined);
  assert.equal(compileCacheFolder({ HOME: join(HOME, "not/there") }), undefined);
  assert.equal(compileCacheFolder({ HOME: "", XDG_CACHE_HOME: "" }), undefined);
  assert.equal(compileCacheFolder({}), undefined);
});
