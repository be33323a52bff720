import type { ConnectionHandler } from "@tulle/reactor";

/** A connection whose upstream is not there yet: its bytes wait in the kernel until a relay asks for them. */
export const PARKED: ConnectionHandler = {
  onConnected() {},
  onReadable() {},
  onWritable() {},
};
