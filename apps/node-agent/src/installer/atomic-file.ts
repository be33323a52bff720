import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";

/** Replaces a file so that nobody ever sees half of it; it survives a power cut. Throws what the file system says. */
export async function writeAtomic(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const temporary = `${path}.tulle-${process.pid}.tmp`;
  let file: FileHandle | undefined;
  try {
    file = await open(temporary, "w", mode);
    await file.writeFile(content);
    // The mode given to open goes through the umask.
    await file.chmod(mode);
    await file.sync();
    await file.close();
    file = undefined;
    await rename(temporary, path);
  } catch (error) {
    await file?.close();
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Permission bits, or undefined when there is no such file. */
export async function modeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mode & 0o7777;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

export function isNotFound(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}

/** Undefined: there is none. */
export async function readIfThere(read: () => Promise<string>): Promise<string | undefined> {
  try {
    return await read();
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
