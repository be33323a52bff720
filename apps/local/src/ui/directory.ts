import { statSync } from "node:fs";
import type { Cluster } from "../objects/cluster.ts";
import type { DirectoryState, ResourceDirectory } from "../resources/directory.ts";
import { formatProblem, type Problem } from "../resources/read-file.ts";
import { type ResourceSet, sameSet } from "../resources/resource-set.ts";
import { UserError } from "../user-error.ts";
import type { Progress } from "./progress.ts";

/** The user's directory as it is told at the terminal. */

/** Pods run under users that own nothing. */
const READABLE_BY_OTHERS = 0o005;

/** At the start every problem counts; later, what was good stays. */
export function readDirectory(directory: ResourceDirectory, progress: Progress): DirectoryState {
  const step = progress.step(`reading ${directory.path}`);
  let state: DirectoryState;
  try {
    state = directory.read();
  } catch (error) {
    throw new UserError(`cannot read the directory: ${(error as Error).message}`);
  }
  if ((statSync(directory.path).mode & READABLE_BY_OTHERS) !== READABLE_BY_OTHERS) {
    throw new UserError(
      `pods run as users of their own and cannot read ${directory.path}: chmod o+rx ${directory.path}`,
    );
  }
  if (state.problems.length > 0) throw new UserError(problemList(state.problems));
  if (state.set.resources.length === 0)
    throw new UserError(`${directory.path} holds no Kubernetes YAML (*.yaml, *.yml)`);
  const count = (kind: string) => state.set.resources.filter((resource) => resource.kind === kind).length;
  step.done(
    `${count("Deployment")} deployments, ${count("Service")} services, ${count("AuthorizationPolicy")} authorization policies`,
  );
  return state;
}

export interface WatchOptions {
  readonly directory: ResourceDirectory;
  /** What is in force now. */
  readonly set: ResourceSet;
  readonly cluster: Cluster;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Puts changes of the directory in force until the signal aborts, and tells of them. */
export function watchDirectory({ directory, set, cluster, progress, signal }: WatchOptions): void {
  let current = set;
  let shown = "";
  const take = ({ set: next, problems }: DirectoryState) => {
    const changed = !sameSet(current, next);
    current = next;
    if (changed) cluster.apply(next);
    const text = problems.length === 0 ? "" : `${problemList(problems)}\n  What was good before stays in force.`;
    if (text !== "" && text !== shown) progress.note(text);
    else if (text === "" && shown !== "") progress.note("✓ the directory is fine again");
    else if (changed) progress.note("✓ the directory has changed, and that is in force");
    shown = text;
  };
  directory.watch(take, (message) => progress.fail(message), signal);
  // What changed between the first reading and now.
  take(directory.read());
}

function problemList(problems: readonly Problem[]): string {
  return [
    `${problems.length === 1 ? "one problem" : `${problems.length} problems`} in the directory:`,
    ...problems.map((one) => `  ${formatProblem(one)}`),
  ].join("\n");
}
