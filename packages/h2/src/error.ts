/** Error codes of RST_STREAM and GOAWAY (RFC 9113 §7). */
export const ErrorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

/**
 * Why a stream or a connection ended. `code` is one of `ErrorCode`, or a number that a peer made up; `remote` says that
 * the peer told us so, otherwise we found out ourselves.
 */
export class Http2Error extends Error {
  readonly code: number;
  readonly remote: boolean;

  constructor(code: number, message: string, remote = false) {
    super(message);
    this.name = "Http2Error";
    this.code = code;
    this.remote = remote;
  }
}

/** `CANCEL` for 8; `0x1f` for a code that no RFC names. */
export function errorCodeName(code: number): string {
  return NAMES[code] ?? `0x${code.toString(16)}`;
}

const NAMES: readonly string[] = Object.keys(ErrorCode);
