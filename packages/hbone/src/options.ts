import { type Http2Limits, ThreadMemory } from "@tulle/h2";

/** The sizes that an operator may set (spec: l4-ztunnel §2.5), bytes. */
export interface Http2Sizes {
  /** Up to which the window of a fast tunnel grows. Default 4 MiB. */
  readonly streamWindow: number;
  /** What one connection may make us buffer at most. Default 16 MiB. */
  readonly connectionWindow: number;
  /** Longest frame that we accept. Default 1 MiB. */
  readonly frameSize: number;
}

/** Handshake deadline and connect timeout unless the caller says otherwise. */
export const HANDSHAKE_DEADLINE_MS = 10_000;

/** What the peer lets us assume at least: its default maximum for frames is the least that SETTINGS may say. */
const MIN_FRAME = 16_384;
const MAX_FRAME = 16_777_215;
const MIN_CONNECTION_WINDOW = 65_535;
const MIN_STREAM_WINDOW = 1024;
const MAX_WINDOW = 0x7fff_ffff;

/** Limits of a connection: operators' sizes are brought into the range that HTTP/2 allows. */
export function http2Limits(sizes: Partial<Http2Sizes> | undefined, maxStreams: number): Partial<Http2Limits> {
  const { streamWindow, connectionWindow, frameSize } = sizes ?? {};
  return {
    maxConcurrentStreams: maxStreams,
    ...(streamWindow === undefined ? {} : { maxStreamWindow: clamp(streamWindow, MIN_STREAM_WINDOW, MAX_WINDOW) }),
    ...(connectionWindow === undefined
      ? {}
      : { connectionWindow: clamp(connectionWindow, MIN_CONNECTION_WINDOW, MAX_WINDOW) }),
    ...(frameSize === undefined ? {} : { maxFrameSize: clamp(frameSize, MIN_FRAME, MAX_FRAME) }),
  };
}

let ofThisThread: ThreadMemory | undefined;

/**
 * The memory of the thread that calls: a module lives once per thread, and so does this. A parameter everywhere; this is
 * what stands there when nobody gave one, so that all connections of a thread share their buffers.
 */
export function threadMemory(): ThreadMemory {
  return (ofThisThread ??= new ThreadMemory());
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
