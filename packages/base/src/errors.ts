/** Whose fault an error is, seen from the proxy: the client side, the server side, or our own. */
export type ErrorSide = "downstream" | "upstream" | "internal";

export interface MeshErrorOptions {
  /** Stable, machine-readable, upper snake case: `HANDSHAKE_FAILED`. */
  readonly code: string;
  readonly side: ErrorSide;
  readonly cause?: unknown;
}

/** An error with a stable code and a side. `message` is what a user reads: what, where and what to do next. */
export class MeshError extends Error {
  readonly code: string;
  readonly side: ErrorSide;

  constructor(message: string, options: MeshErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "MeshError";
    this.code = options.code;
    this.side = options.side;
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
