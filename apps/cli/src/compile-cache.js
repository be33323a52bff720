import { mkdirSync, statSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { isAbsolute, join } from "node:path";

/**
 * Where Node keeps compiled modules between two starts of this program: `tulle/compile` in the user's own cache folder
 * (XDG base directories). What is in there is run, so nobody else may write there.
 */

/** @typedef {Readonly<Record<string, string | undefined>>} Environment */

/** Writable by the group or by everybody. */
const WRITABLE_BY_OTHERS = 0o022;
const OWNERS_ONLY = 0o700;

/**
 * Starts slower, and works, where there is no such folder. NODE_COMPILE_CACHE wins: Node has looked at it already.
 * @param {Environment} env
 */
export function useCompileCache(env) {
  if (isSet(env.NODE_COMPILE_CACHE) || isSet(env.NODE_DISABLE_COMPILE_CACHE)) return;
  const folder = compileCacheFolder(env);
  if (folder !== undefined) enableCompileCache(folder);
}

/**
 * The folder, made if need be. Undefined: there is none, or it is not safe.
 * @param {Environment} env
 * @returns {string | undefined}
 */
export function compileCacheFolder(env) {
  const { XDG_CACHE_HOME: caches = "", HOME: home = "" } = env;
  const parts = isAbsolute(caches) ? [caches] : isAbsolute(home) ? [home, ".cache"] : [];
  if (parts.length === 0) return undefined;
  let folder = "";
  for (const part of [...parts, "tulle", "compile"]) {
    folder = join(folder, part);
    if (!isOwn(folder)) return undefined;
  }
  return folder;
}

/**
 * A folder of this user's alone, with sudo that of root: else it would keep its files in the home of the other.
 * @param {string} folder
 */
function isOwn(folder) {
  try {
    mkdirSync(folder, { mode: OWNERS_ONLY });
  } catch {
    // It is there, or the look at it says that it is not.
  }
  const stat = statSync(folder, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === process.geteuid?.() && (stat.mode & WRITABLE_BY_OTHERS) === 0;
}

/** @param {string | undefined} value */
function isSet(value) {
  return value !== undefined && value !== "";
}
