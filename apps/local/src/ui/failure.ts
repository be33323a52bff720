import { inspect } from "node:util";
import { StoreError } from "@tulle/store";
import { UserError } from "../user-error.ts";

/** Why the program ends, and what to do next. Only what nobody foresaw keeps its stack. */
export function failureText(failure: unknown): string {
  if (failure instanceof UserError) {
    const { message, next } = failure;
    return next === undefined ? message : withNext(message, next);
  }
  // Of the state folder: nothing else of the store is the user's before the mesh runs.
  if (failure instanceof StoreError) {
    return withNext(failure.message, "mend what it names; tulle down --purge forgets what the mesh has kept");
  }
  return withNext(inspect(failure), "this is a fault of tulle: please report it with the lines above");
}

function withNext(message: string, next: string): string {
  return `${message}\n  next: ${next}`;
}
