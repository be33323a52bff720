import { messageOf } from "@tulle/base";

/** An error that is the user's to mend: shown as it is, without a stack. */
export class UserError extends Error {}

/** For `catch`: whatever it was, its message is all that the user needs. */
export function asUserError(error: unknown): never {
  throw new UserError(messageOf(error));
}
