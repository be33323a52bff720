import { type ErrorSide, MeshError } from "@tulle/base";
import { errnoText } from "@tulle/linux";
import type { ResponseFlag } from "@tulle/telemetry";

/** Why a proxied connection failed: the texts are spec l4-ztunnel §9.6, the codes decide response flags and retries. */

export const RECURSIVE_CALL = "attempted recursive call to ourselves";

export function failure(code: string, side: ErrorSide, message: string, cause?: unknown): MeshError {
  return new MeshError(message, cause === undefined ? { code, side } : { code, side, cause });
}

/** The application or a plaintext destination could not be connected to. `error` is -errno. */
export function connectFailed(error: number): MeshError {
  return failure("CONNECT_FAILED", "upstream", `connection failed: ${errnoText(-error)}`);
}

export function unknownLocalWorkload(info: {
  readonly serviceAccount: string;
  readonly namespace: string;
  readonly name: string;
}): MeshError {
  const who = `${info.serviceAccount}.${info.namespace} (${info.name})`;
  return failure("UNKNOWN_WORKLOAD", "internal", `failed to fetch information about local workload: ${who}`);
}

export function policyRejection(reason: string): MeshError {
  return failure("POLICY_DENIED", "downstream", `connection closed due to policy rejection: ${reason}`);
}

export function policyChange(): MeshError {
  return failure("POLICY_CHANGED", "downstream", "connection closed due to policy change");
}

export function drained(): MeshError {
  return failure("DRAINED", "internal", "connection closed due to connection drain");
}

export function drainTimeout(): MeshError {
  return failure("DRAINED", "internal", "connection failed to drain within the timeout");
}

export function limitReached(message: string): MeshError {
  return failure("LIMIT_REACHED", "downstream", message);
}

/** `response_flags` of a connection that ended with this error (spec: l4-ztunnel §9.3). */
export function flagOf(error: MeshError | undefined): ResponseFlag {
  switch (error?.code) {
    case undefined:
    case "DRAINED":
      return "-";
    case "POLICY_DENIED":
    case "POLICY_CHANGED":
      return "DENY";
    case "CONNECT_TIMEOUT":
      return "NETWORK_POLICY";
    case "IDENTITY_ERROR":
      return "IDENTITY_ERROR";
    case "HTTP2_FAILED":
      return "H2_HANDSHAKE_FAILURE";
    default:
      return "CONNECT";
  }
}

/** Whether another endpoint may be tried: nothing was sent yet, and it was not the peer's judgement of us or ours of the peer. */
export function mayTryAnother(error: MeshError, status: number | undefined): boolean {
  switch (error.code) {
    case "CONNECT_FAILED":
    case "CONNECT_TIMEOUT":
    case "TLS_FAILED":
    case "HTTP2_FAILED":
      return true;
    case "HTTP_STATUS":
      return status === 503;
    default:
      return false;
  }
}
