import { ErrorCode, Http2Error } from "./error.ts";
import { Flag, FrameType } from "./frame.ts";

/**
 * Which stream a frame may belong to and how long it must be, as far as this makes it a connection error (RFC 9113 §6).
 * For all types but HEADERS, CONTINUATION and unknown ones. Throws Http2Error.
 */
export function checkShape(type: number, flags: number, streamId: number, length: number): void {
  switch (type) {
    case FrameType.DATA:
    case FrameType.PRIORITY:
      if (streamId === 0) throw protocolError("a stream's frame on stream 0");
      break;
    case FrameType.RST_STREAM:
      if (streamId === 0) throw protocolError("RST_STREAM on stream 0");
      if (length !== 4) throw sizeError("RST_STREAM", length);
      break;
    case FrameType.SETTINGS:
      if (streamId !== 0) throw protocolError("SETTINGS on a stream");
      if (flags & Flag.ACK ? length !== 0 : length % 6 !== 0) throw sizeError("SETTINGS", length);
      break;
    case FrameType.PING:
      if (streamId !== 0) throw protocolError("PING on a stream");
      if (length !== 8) throw sizeError("PING", length);
      break;
    case FrameType.GOAWAY:
      if (streamId !== 0) throw protocolError("GOAWAY on a stream");
      if (length < 8) throw sizeError("GOAWAY", length);
      break;
    case FrameType.WINDOW_UPDATE:
      if (length !== 4) throw sizeError("WINDOW_UPDATE", length);
      break;
    default:
      // Push is disabled (client), and a client must not push (server).
      throw protocolError("PUSH_PROMISE");
  }
}

function protocolError(what: string): Http2Error {
  return new Http2Error(ErrorCode.PROTOCOL_ERROR, what);
}

function sizeError(name: string, length: number): Http2Error {
  return new Http2Error(ErrorCode.FRAME_SIZE_ERROR, `${name} of ${length} bytes`);
}
