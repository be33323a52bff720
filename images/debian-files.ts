import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, join } from "node:path";
import type { TarEntry } from "./tar.ts";

/** Programs of the build machine with the libraries that they load and the licences of the packages they come from. */

/** Debian's loader looks here without a cache; everything goes here, wherever the build machine had it. */
export const LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu";
export const LOADER = "ld-linux-x86-64.so.2";
/** A program that does not answer `ldd` in this time never will. */
const LDD_TIMEOUT_MS = 20_000;

/** The shared libraries that the dynamic loader finds for `program`, as name → file, the loader among them. */
export function librariesOf(program: string): ReadonlyMap<string, string> {
  const output = execFileSync("ldd", [program], { encoding: "utf8", timeout: LDD_TIMEOUT_MS });
  const found = new Map<string, string>();
  for (const line of output.split("\n")) {
    if (line.includes("not found")) throw new Error(`${program} lacks a library: ${line.trim()}`);
    const match = /^\s*(?:(\S+) => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line);
    if (match?.[2] !== undefined) found.set(basename(match[1] ?? match[2]), realpathSync(match[2]));
  }
  if (!found.has(LOADER))
    throw new Error(`${program} is not linked against ${LOADER}: images are made on x86-64 with glibc`);
  return found;
}

/** The files of `programs` (name → place in the image) besides those that are there already. */
export function debianFiles(programs: Readonly<Record<string, string>>, there: ReadonlySet<string>): TarEntry[] {
  const entries = new Map<string, TarEntry>();
  const add = (path: string, file: string, mode: number) => {
    if (there.has(path) || entries.has(path)) return;
    entries.set(path, { kind: "file", path, data: readFileSync(file), mode });
    for (const notice of copyrightOf(file)) entries.set(notice.path, notice);
  };
  for (const [name, target] of Object.entries(programs)) {
    const file = whereIs(name);
    add(target, file, 0o755);
    for (const [library, source] of librariesOf(file)) add(`${LIBRARY_FOLDER}/${library}`, source, 0o755);
  }
  return [...entries.values()];
}

/** The licence of the Debian package that `file` belongs to: whoever hands an image on hands on its notices. */
export function copyrightOf(file: string): readonly TarEntry[] {
  const owner = packageOf(file);
  if (owner === undefined) return [];
  const path = `usr/share/doc/${owner}/copyright`;
  if (!existsSync(`/${path}`)) return [];
  return [{ kind: "file", path, data: readFileSync(`/${path}`) }];
}

export function whereIs(program: string): string {
  for (const folder of [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]) {
    const file = join(folder, program);
    if (folder !== "" && existsSync(file)) return realpathSync(file);
  }
  throw new Error(`${program} is missing on this machine; run: scripts/with-node --tools images true`);
}

/** dpkg knows some files by their path before /usr was merged. */
function packageOf(file: string): string | undefined {
  for (const path of [file, file.replace(/^\/usr/, "")]) {
    try {
      const output = execFileSync("dpkg-query", ["-S", path], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      return output.split(":")[0];
    } catch {
      // Not by this path, or no Debian: then the other path, or no notice.
    }
  }
  return undefined;
}
