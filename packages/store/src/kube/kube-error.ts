import { StoreError, type StoreErrorCode } from "../contract.ts";

/** What the API server answered instead of success; `code` as everywhere, and what only the API knows. */
export class KubeApiError extends StoreError {
  /** HTTP status. 0: there was no answer. */
  readonly status: number;
  /** `Status.reason`: `Expired`, `AlreadyExists`, … */
  readonly reason: string;
  readonly retryAfterMs: number | undefined;

  constructor(
    code: StoreErrorCode,
    message: string,
    details: { readonly status: number; readonly reason?: string; readonly retryAfterMs?: number | undefined },
    cause?: unknown,
  ) {
    super(code, message, cause);
    this.name = "KubeApiError";
    this.status = details.status;
    this.reason = details.reason ?? "";
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** The parts of `metav1.Status` that are read. */
export interface KubeStatus {
  readonly kind?: string;
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
}

/** Some refusals quote the whole object, which may be a Secret. */
const DUMP = /Invalid value: "\{.*\}"/s;

/**
 * A JSON patch that does not fit the object. The API server does not say which operation failed, nor that it was a `test`:
 * validation, which has the same status, names fields.
 */
export function isPatchMisfit(error: unknown): boolean {
  return (
    error instanceof KubeApiError && error.status === 422 && error.message.includes("due to an error in our request")
  );
}

/** The error of an answer that is no success. `what`: `list pods in "default"`. */
export function errorOfAnswer(what: string, status: number, body: string, retryAfter?: string): KubeApiError {
  const said = parseStatus(body);
  return errorOfStatus(
    what,
    { ...said, code: status, message: said?.message ?? (body.slice(0, 200) || "no text") },
    retryAfter,
  );
}

/** The error of a Status object, as an answer or in a watch. */
export function errorOfStatus(what: string, said: KubeStatus, retryAfter?: string): KubeApiError {
  const { code = 0, reason = "", message = "no text" } = said;
  const text = message.trim().replace(DUMP, "Invalid value: …");
  const seconds = Number(retryAfter);
  const details = { status: code, reason, retryAfterMs: seconds > 0 ? seconds * 1000 : undefined };
  return new KubeApiError(codeOf(code, reason), `${what}: ${text}${hintOf(code, what, text)}`, details);
}

export function isExpired(error: unknown): boolean {
  return (
    error instanceof KubeApiError && (error.status === 410 || error.reason === "Expired" || error.reason === "Gone")
  );
}

function codeOf(status: number, reason: string): StoreErrorCode {
  switch (status) {
    case 401:
    case 403:
      return "FORBIDDEN";
    case 404:
      return "NOT_FOUND";
    case 409:
      return reason === "AlreadyExists" ? "EXISTS" : "CONFLICT";
    case 422:
    case 400:
    case 405:
    case 406:
    case 413:
    case 415:
      return "INVALID";
    default:
      return "UNAVAILABLE";
  }
}

function hintOf(status: number, what: string, said: string): string {
  if (status === 401) return " (the API server does not accept the credentials)";
  // Admission refuses with the same status.
  if (status === 403 && / cannot .* resource /.test(said))
    return ` (the role needs: ${what.split(" ").slice(0, 2).join(" on ")})`;
  return "";
}

function parseStatus(body: string): KubeStatus | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === "object" && value !== null && (value as KubeStatus).kind === "Status") return value;
  } catch {
    // Proxies and panics answer with plain text: the caller shows its beginning.
  }
  return undefined;
}
