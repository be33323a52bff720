import { chmodSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LOCAL_RUN_FOLDER } from "@tulle/base";
import { processStartTime, removeLeftovers } from "@tulle/lab";
import { deleteLink } from "./runtime/network.ts";

/** Who owns a mesh on this machine, and how what a dead owner left behind is removed. */

export interface MeshNames {
  /** Folder of what this run needs, 0700: volatile, as the namespaces and links are. */
  readonly folder: string;
  readonly bridge: string;
  /** Name of a link on the bridge; `node` and `pod` number from 0. */
  veth(kind: "node" | "pod", serial: number): string;
}

const OWNER_FILE = "owner.json";

/** The kernel allows 15 characters for a link; prefix and number need seven of them. */
export const MESH_NAME = /^[a-z0-9]{1,8}$/;

export function meshNames(name: string): MeshNames {
  return {
    folder: join(LOCAL_RUN_FOLDER, name),
    bridge: `tulle-${name}`,
    // Five digits to base 36 fit, which no mesh lives long enough to use up.
    veth: (kind, serial) => `${kind === "node" ? "n" : "p"}${name}-${serial.toString(36)}`,
  };
}

/** Where a mesh writes. */
export interface MeshFolders {
  /** Empty: where containers build their roots, each in a mount namespace of its own. */
  readonly mount: string;
  readonly pods: string;
  readonly logs: string;
  readonly mesh: string;
}

interface Owner {
  readonly pid: number;
  /** Clock ticks after boot at which the process started: tells it from a later one with the same number. */
  readonly started: string;
}

/**
 * Takes the folder for this process. Answers with the pid of a living owner instead of taking it from it; what a dead one
 * left behind is removed first.
 */
export async function claim(names: MeshNames): Promise<{ readonly owner?: number }> {
  mkdirSync(names.folder, { recursive: true, mode: 0o700 });
  chmodSync(names.folder, 0o700);
  const path = join(names.folder, OWNER_FILE);
  // Two rounds: the second one after a dead owner's leftovers are gone.
  for (let round = 0; round < 2; round++) {
    try {
      becomeOwner(names.folder, path);
      await removeAll(names);
      return {};
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = ownerOf(names);
    if (owner !== undefined) return { owner };
    rmSync(path, { force: true });
  }
  return { owner: readOwner(path)?.pid ?? 0 };
}

/** The file appears whole or not at all. Throws EEXIST when there is an owner. */
function becomeOwner(folder: string, path: string): void {
  const draft = join(folder, `owner.${process.pid}`);
  const owner: Owner = { pid: process.pid, started: processStartTime(process.pid) ?? "" };
  writeFileSync(draft, JSON.stringify(owner), { mode: 0o600 });
  try {
    linkSync(draft, path);
  } finally {
    rmSync(draft);
  }
  for (const entry of readdirSync(folder)) {
    if (entry !== OWNER_FILE) rmSync(join(folder, entry), { recursive: true, force: true });
  }
}

/** The process that runs the mesh of this name; undefined: it does not run. */
export function ownerOf(names: MeshNames): number | undefined {
  const owner = readOwner(join(names.folder, OWNER_FILE));
  return owner !== undefined && owner.started !== "" && processStartTime(owner.pid) === owner.started
    ? owner.pid
    : undefined;
}

/** Removes what the name stands for on this machine, and namespaces of whoever died. */
export async function removeAll(names: MeshNames): Promise<void> {
  await removeLeftovers();
  await deleteLink(names.bridge);
}

/** The last thing a mesh does: its folder goes. */
export function release(names: MeshNames): void {
  rmSync(names.folder, { recursive: true, force: true });
}

function readOwner(path: string): Owner | undefined {
  try {
    const { pid, started } = JSON.parse(readFileSync(path, "utf8")) as Partial<Owner>;
    return typeof pid === "number" && typeof started === "string" ? { pid, started } : undefined;
  } catch {
    // Missing or half-written by a process that died just then: nobody owns it.
    return undefined;
  }
}

/** The folders inside: what root alone may see is 0700. */
export function makeFolders(names: MeshNames): MeshFolders {
  const folder = (name: string, mode: number) => {
    const path = join(names.folder, name);
    mkdirSync(path, { recursive: true, mode });
    chmodSync(path, mode);
    return path;
  };
  return {
    mount: folder("mount", 0o755),
    pods: folder("pods", 0o755),
    logs: folder("logs", 0o700),
    mesh: folder("mesh", 0o700),
  };
}
