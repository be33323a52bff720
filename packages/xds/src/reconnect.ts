import { Code, ConnectError } from "@connectrpc/connect";
import { Backoff, type Random } from "@tulle/base";

/** How a stream ended. */
export interface StreamEnd {
  /** Undefined: the server ended it in order. */
  readonly error: unknown;
  /** Whether the server had accepted the call. */
  readonly connected: boolean;
  /** Whether it had sent any response. */
  readonly answered: boolean;
}

/** Label of `istio_xds_connection_terminations_total`. */
export type TerminationReason = "ConnectionError" | "Error" | "Reconnect" | "Complete";

/** At most 5 s and not upstream's 15: a control plane that was away for long is followed soon after it is back, but not by all nodes at once. */
const BACKOFF = { initialMs: 20, maxMs: 5_000, jitter: 0.2 } as const;
/** After an end that is part of life, such as a control plane that restarts. */
const BENIGN_WAIT_MS = 10;
const BENIGN_CODES = new Set([Code.Unknown, Code.Canceled, Code.DeadlineExceeded]);
const BENIGN_TEXTS = ["transport is closing", "received prior goaway"];

/**
 * When to connect again (spec: l4-ztunnel §5.4). A good end leads to a quick return only after the stream had been of
 * use: a server that accepts and hangs up at once must not make a client spin.
 */
export class ReconnectPolicy {
  readonly #backoff: Backoff;

  constructor(random?: Random) {
    this.#backoff = new Backoff({ ...BACKOFF, ...(random === undefined ? {} : { random }) });
  }

  /** Milliseconds to wait, and the reason to count. */
  after(end: StreamEnd): { readonly waitMs: number; readonly reason: TerminationReason } {
    const reason = reasonOf(end);
    if (end.answered) this.#backoff.reset();
    if (end.answered && reason === "Complete") return { waitMs: 0, reason };
    if (end.answered && reason === "Reconnect") return { waitMs: BENIGN_WAIT_MS, reason };
    return { waitMs: this.#backoff.next(), reason };
  }
}

function reasonOf(end: StreamEnd): TerminationReason {
  if (end.error === undefined) return "Complete";
  if (!end.connected) return "ConnectionError";
  return isBenign(end.error) ? "Reconnect" : "Error";
}

function isBenign(error: unknown): boolean {
  if (!(error instanceof ConnectError)) return false;
  if (BENIGN_CODES.has(error.code)) return true;
  return error.code === Code.Unavailable && BENIGN_TEXTS.some((text) => error.message.includes(text));
}
