import type { Role } from "./connection.ts";

/** Sizes in bytes, times in milliseconds. */
export interface Http2Limits {
  /** Server: announced and enforced (default 200). Client: what it opens at most (default 100). */
  readonly maxConcurrentStreams: number;
  /** Receive window of the connection: what it may make us buffer at most. Default 16 MiB. */
  readonly connectionWindow: number;
  /**
   * Receive window of a new stream. Default 64 KiB, less if the connection's window does not hold this for every stream
   * that may be open; a stream whose consumer keeps up grows from there.
   */
  readonly initialWindow: number;
  /** Up to which a fast stream's window grows. Default 4 MiB. */
  readonly maxStreamWindow: number;
  /** Longest frame that we accept. Default 1 MiB. */
  readonly maxFrameSize: number;
  /** Largest header section that we accept. Default 64 KiB (server), 16 KiB (client). */
  readonly maxHeaderListSize: number;
  /** A PING is sent this often; 0 turns it off. Default 10 s. */
  readonly pingIntervalMs: number;
  /** No byte for so long after a PING: the connection is torn down. Default 9.9 s, so that a dead peer is noticed within 20 s. */
  readonly pingTimeoutMs: number;
  /** Server: whether extended CONNECT (RFC 8441) is announced. Default false. */
  readonly enableConnectProtocol: boolean;
}

const COMMON = {
  connectionWindow: 16 * 1_048_576,
  initialWindow: 65_536,
  maxStreamWindow: 4 * 1_048_576,
  maxFrameSize: 1_048_576,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 9_900,
  enableConnectProtocol: false,
} as const;

const DEFAULTS: Readonly<Record<Role, Http2Limits>> = {
  client: { ...COMMON, maxConcurrentStreams: 100, maxHeaderListSize: 16_384 },
  server: { ...COMMON, maxConcurrentStreams: 200, maxHeaderListSize: 65_536 },
};

/** Fills in the defaults. Throws RangeError for a limit that no connection can work with. */
export function resolveLimits(role: Role, limits: Partial<Http2Limits> = {}): Http2Limits {
  const resolved = { ...DEFAULTS[role], ...limits };
  const between = (name: keyof Http2Limits, low: number, high: number): void => {
    const value = Number(resolved[name]);
    if (!(value >= low && value <= high))
      throw new RangeError(`${name} must lie between ${low} and ${high}, not ${value}`);
  };
  between("maxConcurrentStreams", 1, 1_000_000);
  between("connectionWindow", 65_535, 0x7fff_ffff);
  between("initialWindow", 1024, 0x7fff_ffff);
  between("maxStreamWindow", 1024, 0x7fff_ffff);
  between("maxFrameSize", 16_384, 16_777_215);
  between("maxHeaderListSize", 1024, 16_777_216);
  return resolved;
}
