/** Something that the user can mend: what went wrong, and what to do next. Printed without a stack. */
export class CliError extends Error {
  readonly next: string;

  constructor(message: string, next: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "CliError";
    this.next = next;
  }
}
