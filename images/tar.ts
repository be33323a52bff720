/** Tar archives (POSIX ustar) that depend on nothing but their content: sorted, owned by root, of the year 1970. */

export type TarEntry =
  | { readonly kind: "file"; readonly path: string; readonly data: Uint8Array; readonly mode?: number }
  | { readonly kind: "directory"; readonly path: string; readonly mode?: number }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string };

const BLOCK = 512;
/** Two empty blocks end an archive. */
const END = Buffer.alloc(2 * BLOCK);
const MAX_NAME_BYTES = 100;
const MAX_PREFIX_BYTES = 155;
/** Eleven octal digits. */
const MAX_FILE_BYTES = 8 ** 11 - 1;
const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;
const TYPES = { file: "0", symlink: "2", directory: "5" } as const;

/**
 * The archive's bytes. Paths are relative, without `.` and `..`; folders above an entry are added. Throws on a path that
 * is given twice, that leaves the archive or that is too long for the format.
 */
export function tarOf(entries: Iterable<TarEntry>): Buffer {
  const byPath = new Map<string, TarEntry>();
  for (const entry of entries) {
    checkPath(entry.path);
    const before = byPath.get(entry.path);
    if (before !== undefined) throw new Error(`tar: ${entry.path} is there twice`);
    byPath.set(entry.path, entry);
  }
  for (const path of [...byPath.keys()]) {
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
      const folder = path.slice(0, at);
      const there = byPath.get(folder);
      if (there === undefined) byPath.set(folder, { kind: "directory", path: folder });
      else if (there.kind !== "directory")
        throw new Error(`tar: ${path} lies below ${folder}, which is a ${there.kind}`);
    }
  }
  const parts: Uint8Array[] = [];
  // Parents sort before what they hold: a path is longer than its folder's and begins with it.
  for (const path of [...byPath.keys()].toSorted()) {
    const entry = byPath.get(path) as TarEntry;
    parts.push(header(entry));
    if (entry.kind === "file" && entry.data.length > 0) {
      parts.push(entry.data);
      const rest = entry.data.length % BLOCK;
      if (rest > 0) parts.push(Buffer.alloc(BLOCK - rest));
    }
  }
  return Buffer.concat([...parts, END]);
}

function checkPath(path: string): void {
  const bad = path === "" || path.split("/").some((part) => part === "" || part === "." || part === "..");
  if (bad) throw new Error(`tar: "${path}" is no relative path inside the archive`);
}

function header(entry: TarEntry): Buffer {
  const size = entry.kind === "file" ? entry.data.length : 0;
  if (size > MAX_FILE_BYTES) throw new Error(`tar: ${entry.path} is too large`);
  const [name, prefix] = splitName(entry.kind === "directory" ? `${entry.path}/` : entry.path);
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0);
  block.write(octal(modeOf(entry), 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(size, 11), 124);
  block.write(octal(0, 11), 136);
  block.write("        ", 148);
  block.write(TYPES[entry.kind], 156);
  if (entry.kind === "symlink") {
    if (Buffer.byteLength(entry.target) > MAX_NAME_BYTES)
      throw new Error(`tar: the target of ${entry.path} is too long`);
    block.write(entry.target, 157);
  }
  block.write("ustar\0", 257);
  block.write("00", 263);
  block.write(prefix, 345);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${octal(sum, 6)}\0 `, 148);
  return block;
}

function modeOf(entry: TarEntry): number {
  if (entry.kind === "symlink") return 0o777;
  return entry.mode ?? (entry.kind === "directory" ? DIRECTORY_MODE : FILE_MODE);
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}

/** A long path is kept in two fields, cut at a slash. */
function splitName(path: string): readonly [name: string, prefix: string] {
  if (Buffer.byteLength(path) <= MAX_NAME_BYTES) return [path, ""];
  for (let at = path.indexOf("/"); at > 0 && at < path.length - 1; at = path.indexOf("/", at + 1)) {
    const prefix = path.slice(0, at);
    const name = path.slice(at + 1);
    if (Buffer.byteLength(name) <= MAX_NAME_BYTES && Buffer.byteLength(prefix) <= MAX_PREFIX_BYTES)
      return [name, prefix];
  }
  throw new Error(`tar: the path ${path} is too long`);
}
