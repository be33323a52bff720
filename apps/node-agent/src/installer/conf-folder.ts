import { createHash } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { modeOf, readIfThere, writeAtomic } from "./atomic-file.ts";
import {
  hasOurs,
  holdsEntry,
  type JsonObject,
  type NetworkList,
  onlyOurs,
  parseNetworkList,
  withEntry,
  withoutEntry,
} from "./network-list.ts";

/** The runtime's folder of network configurations: our entry in the file that the runtime reads, and out again. */
export interface ConfFolder {
  /**
   * Brings the entry into the first valid file by name, which is the one that runtimes take. `changed`: it was not there
   * as it should be. `waiting`: there is no configuration yet.
   */
  insert(
    entry: JsonObject,
  ): Promise<{ readonly state: "valid" | "changed"; readonly file: string } | { readonly state: "waiting" }>;
  /** Takes our entry out of every file. A file that nobody changed since becomes what it was, byte for byte. */
  remove(): Promise<void>;
}

/** What a file was before our entry came in; beside it, under a name that no runtime reads. */
interface Original {
  /** Name that the file had: a .conf became a .conflist. */
  readonly name: string;
  readonly content: string;
  /** Of what we wrote: as long as the file has it, the original is still what the rest of it says. */
  readonly written: string;
}

/** What libcni looks for; all but .conflist hold a single plugin. */
const EXTENSIONS = /\.(conf|conflist|json)$/;
const DEFAULT_MODE = 0o644;

export function openConfFolder(folder: string, onlyName?: string): ConfFolder {
  return {
    async insert(entry) {
      for (const name of await namesIn(folder)) {
        if (onlyName !== undefined && name !== onlyName && name !== listNameOf(onlyName)) continue;
        const text = await readIfThere(() => readFile(join(folder, name), "utf8"));
        const list = text === undefined ? undefined : parseNetworkList(text, name.endsWith(".conflist"));
        if (text === undefined || list === undefined || onlyOurs(list)) continue;
        const file = listNameOf(name);
        if (holdsEntry(list, entry)) return { state: "valid", file };
        await rewrite(folder, name, text, list, entry);
        return { state: "changed", file };
      }
      return { state: "waiting" };
    },

    async remove() {
      for (const name of await namesIn(folder)) {
        const text = await readIfThere(() => readFile(join(folder, name), "utf8"));
        const list = text === undefined ? undefined : parseNetworkList(text, name.endsWith(".conflist"));
        if (text !== undefined && list !== undefined && hasOurs(list)) await restore(folder, name, text, list);
      }
      for (const name of await allNames(folder)) {
        if (ORIGINAL.test(name)) await rm(join(folder, name), { force: true });
      }
    },
  };
}

const ORIGINAL = /^\..*\.tulle-original$/;

async function rewrite(
  folder: string,
  name: string,
  text: string,
  list: NetworkList,
  entry: JsonObject,
): Promise<void> {
  const target = listNameOf(name);
  const mode = (await modeOf(join(folder, name))) ?? DEFAULT_MODE;
  const content = withEntry(list, entry);
  const record = join(folder, originalNameOf(target));
  const before = hasOurs(list) ? await originalOf(folder, target, text) : { name, content: text };
  // Written first: a crash in between leaves a record that fits no file, which is ignored.
  if (before === undefined) await rm(record, { force: true });
  else await writeAtomic(record, JSON.stringify({ ...before, written: hashOf(content) } satisfies Original), 0o600);
  await writeAtomic(join(folder, target), content, mode);
  if (target !== name) await rm(join(folder, name), { force: true });
}

async function restore(folder: string, name: string, text: string, list: NetworkList): Promise<void> {
  const mode = (await modeOf(join(folder, name))) ?? DEFAULT_MODE;
  const before = await originalOf(folder, name, text);
  if (before === undefined && onlyOurs(list)) return rm(join(folder, name), { force: true });
  const target = before?.name ?? name;
  await writeAtomic(join(folder, target), before?.content ?? withoutEntry(list), mode);
  if (target !== name) await rm(join(folder, name), { force: true });
}

/** Undefined when others changed the file since, or when there is no record. */
async function originalOf(folder: string, name: string, text: string): Promise<Omit<Original, "written"> | undefined> {
  const record = await readIfThere(() => readFile(join(folder, originalNameOf(name)), "utf8"));
  if (record === undefined) return undefined;
  try {
    const original = JSON.parse(record) as Original;
    const fits = original.written === hashOf(text) && listNameOf(original.name) === name;
    return fits ? { name: original.name, content: original.content } : undefined;
  } catch {
    // Damaged: the entry is taken out of what is there now.
    return undefined;
  }
}

function listNameOf(name: string): string {
  return name.replace(EXTENSIONS, ".conflist");
}

function originalNameOf(name: string): string {
  return `.${name}.tulle-original`;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function namesIn(folder: string): Promise<string[]> {
  return (await allNames(folder)).filter((name) => EXTENSIONS.test(name));
}

async function allNames(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).toSorted();
  } catch (error) {
    // Not made yet: the runtime's packages or the primary plugin will.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
