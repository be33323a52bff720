import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { messageOf } from "@tulle/base";
import { CliError } from "./cli-error.ts";

/** What users get wrong about a file, and what to do about it. */
const PROBLEMS: Readonly<Record<string, readonly [problem: string, next: string]>> = {
  ENOENT: ["there is no such file", "give the path of a file, or - for standard input"],
  ENOTDIR: ["a part of its path is a file, not a folder", "give the path of a file, or - for standard input"],
  EISDIR: ["it is a folder", "name a file in it, or - for standard input"],
  EACCES: ["you may not read it", "ask for the right, or copy the file to where you may read it"],
};

/** Content of a file, or of `input` for `-`. Rejects with CliError. */
export async function readText(path: string, input: NodeJS.ReadableStream): Promise<string> {
  try {
    return path === "-" ? await text(input) : await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    const [problem, next] = PROBLEMS[code] ?? [messageOf(error), "see whether another program can read it"];
    throw new CliError(`cannot read ${path === "-" ? "standard input" : path}: ${problem}`, next, error);
  }
}
