/** Errors as the CNI specification wants them (1.1, "Error"): a number that runtimes know, and texts for people. */

/** Numbers below 100 belong to the specification. */
export const CNI_CODES = {
  incompatibleVersion: 1,
  unknownContainer: 3,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodeFailure: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  /** Ours: the node agent refused the pod. */
  refused: 100,
} as const;

export type CniErrorName = keyof typeof CNI_CODES;

/** Fails the command. `message` is what went wrong, `details` what to do next; both end up in an Event of the pod. */
export class CniError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(name: CniErrorName, message: string, details: string) {
    super(message);
    this.name = "CniError";
    this.code = CNI_CODES[name];
    this.details = details;
  }
}

/** The error as it goes to standard output. */
export function printError(error: unknown, cniVersion: string): string {
  const known =
    error instanceof CniError
      ? error
      : new CniError(
          "ioFailure",
          `istio-cni: unexpected: ${error instanceof Error ? error.message : String(error)}`,
          "this is a defect of the plugin; look at the node agent's log on this node",
        );
  return `${JSON.stringify({ cniVersion, code: known.code, msg: known.message, details: known.details })}\n`;
}
