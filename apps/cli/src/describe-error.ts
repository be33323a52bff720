import { MeshError, messageOf } from "@tulle/base";
import type { StoreError, StoreErrorCode } from "@tulle/store";
import { CliError } from "./cli-error.ts";

/** What to do about an answer of the API server. */
const NEXT: Readonly<Record<StoreErrorCode, string>> = {
  NOT_FOUND: "see what is there: tulle status",
  CONFLICT: "somebody else changed it at the same time: try again",
  EXISTS: "delete it, or choose another name",
  INVALID: "correct the value that the message names",
  FORBIDDEN: "ask the cluster's administrator for the right; tulle check --pre lists all that are needed",
  UNAVAILABLE:
    "see whether the API server answers: kubectl cluster-info; choose another with --kubeconfig and --context",
};

/** Two lines for the user: what, and what next. Only what nobody foresaw keeps its stack. */
export function describeError(error: unknown): string {
  if (error instanceof CliError) return lines(error.message, error.next);
  if (isStoreError(error)) return lines(error.message, NEXT[error.code]);
  const stack = error instanceof Error ? error.stack : undefined;
  return lines(stack ?? messageOf(error), "this is a fault of tulle: please report it with the lines above");
}

/** By its code: a command that has not loaded the store cannot have failed in it, and need not load it now. */
function isStoreError(error: unknown): error is StoreError {
  return error instanceof MeshError && Object.hasOwn(NEXT, error.code);
}

function lines(message: string, next: string): string {
  return `error: ${message}\n  next: ${next}\n`;
}
