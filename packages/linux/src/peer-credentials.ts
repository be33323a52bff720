import { calls, lastError } from "./calls.ts";
import { SO_PEERCRED, SOL_SOCKET } from "./constants.ts";
import { SystemError } from "./errno.ts";
import { ucredLayout } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** Who connected to a Unix socket, as it was when it connected (unix(7), SO_PEERCRED), in this process' view of pids. */
export interface PeerCredentials {
  /** 0: a process of another pid namespace. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

const credentials = NativeBuffer.alloc(ucredLayout.size);
const length = NativeBuffer.alloc(4);

/** `fd`: an open Unix socket that somebody else owns. Throws SystemError. */
export function peerCredentials(fd: number): PeerCredentials {
  length.bytes.writeUInt32LE(ucredLayout.size);
  if (calls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials.pointer, length.pointer) < 0) {
    throw new SystemError("look at a socket's peer", lastError());
  }
  const { bytes } = credentials;
  return {
    pid: bytes.readInt32LE(ucredLayout.pid),
    uid: bytes.readUInt32LE(ucredLayout.uid),
    gid: bytes.readUInt32LE(ucredLayout.gid),
  };
}
