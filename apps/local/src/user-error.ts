import { messageOf } from "@tulle/base";

/** An error that is the user's to mend: shown as it is, without a stack. */
export class UserError extends Error {
  /** What to do. Undefined: the message ends with it. */
  readonly next: string | undefined;

  constructor(message: string, next?: string) {
    super(message);
    this.next = next;
  }
}

/** For `catch`: whatever it was, its message and `next` are all that the user needs. */
export function asUserError(next: string): (error: unknown) => never {
  return (error) => {
    throw new UserError(messageOf(error), next);
  };
}
