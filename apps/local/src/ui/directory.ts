import { statSync } from "node:fs";
import { messageOf } from "@tulle/base";
import { formatProblem, type ImportResult, type Problem } from "@tulle/store/directory";
import { UserError } from "../user-error.ts";
import type { Progress } from "./progress.ts";

/** The user's directory as it is told at the terminal. */

/** Pods run under users that own nothing. */
const READABLE_BY_OTHERS = 0o005;
const ANOTHER = "name a directory of Kubernetes YAML: tulle up DIR";

/** Throws UserError for a directory that cannot be used at all. */
export function checkDirectory(path: string): void {
  let mode: number;
  try {
    const stat = statSync(path);
    if (!stat.isDirectory()) throw new UserError(`${path} is no directory`, ANOTHER);
    mode = stat.mode;
  } catch (error) {
    if (error instanceof UserError) throw error;
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new UserError(
      missing ? `there is no directory ${path}` : `cannot read ${path}: ${messageOf(error)}`,
      ANOTHER,
    );
  }
  if ((mode & READABLE_BY_OTHERS) !== READABLE_BY_OTHERS) {
    throw new UserError(`pods run as users of their own and cannot read ${path}: chmod o+rx ${path}`);
  }
}

/** At the start every problem counts. Throws UserError. */
export function refuseProblems(problems: readonly Problem[]): void {
  if (problems.length > 0) throw new UserError(problemList(problems), "correct these lines and start again");
}

/** Tells of changes of the directory, one after the other; what was good stays. */
export class DirectoryReport {
  readonly #progress: Progress;
  #shown = "";

  constructor(progress: Progress) {
    this.#progress = progress;
  }

  /** `problems`: all there are now. `imagesChanged`: an image stands for another command. */
  tell({ changes }: Pick<ImportResult, "changes">, problems: readonly Problem[], imagesChanged: boolean): void {
    const text =
      problems.length === 0
        ? ""
        : `${problemList(problems)}\n  next: correct these lines and save; until then what was good before stays in force`;
    if (text !== "" && text !== this.#shown) this.#progress.note(text);
    else if (text === "" && this.#shown !== "") this.#progress.note("✓ the directory is fine again");
    else if (changes > 0 || imagesChanged) this.#progress.note("✓ the directory has changed, and that is in force");
    this.#shown = text;
  }
}

function problemList(problems: readonly Problem[]): string {
  return [
    `${problems.length === 1 ? "one problem" : `${problems.length} problems`} in the directory:`,
    ...problems.map((one) => `  ${formatProblem(one)}`),
  ].join("\n");
}
