import { ErrorCode, Http2Error } from "./error.ts";
import { DEFAULT_WINDOW, MAX_MAX_FRAME, MAX_WINDOW, MIN_MAX_FRAME, readUint32, writeUint32 } from "./frame.ts";
import { DEFAULT_TABLE_SIZE } from "./hpack-decoder.ts";

/** What one side has announced (RFC 9113 §6.5.2, RFC 8441 §3). */
export interface Settings {
  /** Bytes. */
  readonly headerTableSize: number;
  readonly enablePush: boolean;
  /** Infinity when there is no limit. */
  readonly maxConcurrentStreams: number;
  /** Bytes. */
  readonly initialWindowSize: number;
  /** Bytes. */
  readonly maxFrameSize: number;
  /** Bytes; Infinity when there is no limit. Advisory. */
  readonly maxHeaderListSize: number;
  readonly enableConnectProtocol: boolean;
}

/** What holds before the first SETTINGS frame. */
export const INITIAL_SETTINGS: Settings = {
  headerTableSize: DEFAULT_TABLE_SIZE,
  enablePush: true,
  maxConcurrentStreams: Number.POSITIVE_INFINITY,
  initialWindowSize: DEFAULT_WINDOW,
  maxFrameSize: MIN_MAX_FRAME,
  maxHeaderListSize: Number.POSITIVE_INFINITY,
  enableConnectProtocol: false,
};

const HEADER_TABLE_SIZE = 0x1;
const ENABLE_PUSH = 0x2;
const MAX_CONCURRENT_STREAMS = 0x3;
const INITIAL_WINDOW_SIZE = 0x4;
const MAX_FRAME_SIZE = 0x5;
const MAX_HEADER_LIST_SIZE = 0x6;
const ENABLE_CONNECT_PROTOCOL = 0x8;
const ENTRY = 6;

/** The payload of a SETTINGS frame that says `settings`; values that are the default are left out. */
export function encodeSettings(settings: Settings): Buffer {
  const entries: [id: number, value: number][] = [];
  const say = (id: number, value: number, initial: number): void => {
    if (value !== initial) entries.push([id, value]);
  };
  say(HEADER_TABLE_SIZE, settings.headerTableSize, INITIAL_SETTINGS.headerTableSize);
  say(ENABLE_PUSH, Number(settings.enablePush), 1);
  say(MAX_CONCURRENT_STREAMS, settings.maxConcurrentStreams, INITIAL_SETTINGS.maxConcurrentStreams);
  say(INITIAL_WINDOW_SIZE, settings.initialWindowSize, INITIAL_SETTINGS.initialWindowSize);
  say(MAX_FRAME_SIZE, settings.maxFrameSize, INITIAL_SETTINGS.maxFrameSize);
  say(MAX_HEADER_LIST_SIZE, settings.maxHeaderListSize, INITIAL_SETTINGS.maxHeaderListSize);
  say(ENABLE_CONNECT_PROTOCOL, Number(settings.enableConnectProtocol), 0);
  const payload = Buffer.alloc(entries.length * ENTRY);
  entries.forEach(([id, value], i) => {
    payload[i * ENTRY + 1] = id;
    writeUint32(payload, i * ENTRY + 2, value);
  });
  return payload;
}

/**
 * The settings that hold after the payload `bytes[start, end)` of a SETTINGS frame; unknown ones are ignored. The length
 * must be a multiple of six. Throws Http2Error (a connection error) for a value that is not allowed. `fromServer`: a
 * server must not enable push (RFC 9113 §6.5.2).
 */
export function applySettings(
  current: Settings,
  bytes: Buffer,
  start: number,
  end: number,
  fromServer: boolean,
): Settings {
  const next: { -readonly [K in keyof Settings]: Settings[K] } = { ...current };
  for (let at = start; at < end; at += ENTRY) {
    const value = readUint32(bytes, at + 2);
    switch ((bytes[at]! << 8) | bytes[at + 1]!) {
      case HEADER_TABLE_SIZE:
        next.headerTableSize = value;
        break;
      case ENABLE_PUSH:
        if (value > 1 || (value === 1 && fromServer)) throw invalid("ENABLE_PUSH", value);
        next.enablePush = value === 1;
        break;
      case MAX_CONCURRENT_STREAMS:
        next.maxConcurrentStreams = value;
        break;
      case INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW) throw invalid("INITIAL_WINDOW_SIZE", value, ErrorCode.FLOW_CONTROL_ERROR);
        next.initialWindowSize = value;
        break;
      case MAX_FRAME_SIZE:
        if (value < MIN_MAX_FRAME || value > MAX_MAX_FRAME) throw invalid("MAX_FRAME_SIZE", value);
        next.maxFrameSize = value;
        break;
      case MAX_HEADER_LIST_SIZE:
        next.maxHeaderListSize = value;
        break;
      case ENABLE_CONNECT_PROTOCOL:
        if (value > 1 || (value === 0 && current.enableConnectProtocol))
          throw invalid("ENABLE_CONNECT_PROTOCOL", value);
        next.enableConnectProtocol = value === 1;
        break;
      default:
    }
  }
  return next;
}

function invalid(name: string, value: number, code: number = ErrorCode.PROTOCOL_ERROR): Http2Error {
  return new Http2Error(code, `SETTINGS ${name} must not be ${value}`);
}
