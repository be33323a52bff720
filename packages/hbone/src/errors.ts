import { type ErrorSide, MeshError } from "@tulle/base";
import { ErrorCode, errorCodeName, type Http2Error } from "@tulle/h2";
import { Errno, errnoText } from "@tulle/linux";

/**
 * How tunnels fail: code → text as in spec l4-ztunnel §9.6.
 * CONNECT_FAILED, CONNECT_TIMEOUT, TLS_FAILED, IDENTITY_MISMATCH, HTTP2_FAILED, HTTP_STATUS, POOL_CLOSED: before a tunnel
 * is there. IO_ERROR, HTTP2_ERROR, LIMIT_REACHED: afterwards.
 */
export function connectFailed(error: number): MeshError {
  return error === -Errno.ETIMEDOUT
    ? connectTimeout(errnoText(-error))
    : meshError("CONNECT_FAILED", `io error: ${errnoText(-error)}`);
}

export function connectTimeout(reason: string): MeshError {
  const text = `connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: ${reason}`;
  return meshError("CONNECT_TIMEOUT", text);
}

/** `error` as the TLS engine has left it: becomes the cause. A peer that is not whom we look for has a code of its own. */
export function tlsFailed(error: Error | undefined, side: ErrorSide = "upstream"): MeshError {
  const code = error instanceof MeshError && error.code === "IDENTITY_MISMATCH" ? error.code : "TLS_FAILED";
  return meshError(code, `tls error: ${error?.message ?? "the handshake failed"}`, side, error);
}

export function http2Failed(reason: string, side: ErrorSide = "upstream"): MeshError {
  return meshError("HTTP2_FAILED", `http2 handshake failed: ${reason}`, side);
}

/** The connection broke a rule of HTTP/2, after its handshake. */
export function http2Broken(reason: string, side: ErrorSide): MeshError {
  return meshError("HTTP2_ERROR", `h2 failed: ${reason}`, side);
}

export function httpStatus(status: number): MeshError {
  return meshError("HTTP_STATUS", `http status: ${status}`);
}

export function poolClosed(): MeshError {
  return meshError("POOL_CLOSED", "pool closed", "internal");
}

export function tooManyWaiting(): MeshError {
  return meshError("CONNECT_FAILED", "connection failed: too many tunnels wait for this destination", "internal");
}

export function overBudget(): MeshError {
  return meshError("LIMIT_REACHED", "connection failed: no memory left for the bytes of a slow reader", "internal");
}

export function ioError(reason: string, side: ErrorSide = "upstream"): MeshError {
  return meshError("IO_ERROR", `io error: ${reason}`, side);
}

/**
 * What the end of a stream means to a user; undefined: a normal end. A reset by the peer is one when it stands for a TCP
 * reset or for an end (NO_ERROR, CANCEL, STREAM_CLOSED, CONNECT_ERROR).
 */
export function streamEnded(error: Http2Error, connectionLost: boolean, side: ErrorSide): MeshError | undefined {
  if (connectionLost) return ioError(error.message, side);
  if (error.remote && NORMAL_RESETS.has(error.code)) return undefined;
  const who = error.remote ? "the peer has reset the stream" : error.message;
  return ioError(`${who}: ${errorCodeName(error.code)}`, side);
}

const NORMAL_RESETS: ReadonlySet<number> = new Set([
  ErrorCode.NO_ERROR,
  ErrorCode.CANCEL,
  ErrorCode.STREAM_CLOSED,
  ErrorCode.CONNECT_ERROR,
]);

function meshError(code: string, message: string, side: ErrorSide = "upstream", cause?: unknown): MeshError {
  return new MeshError(message, cause === undefined ? { code, side } : { code, side, cause });
}
