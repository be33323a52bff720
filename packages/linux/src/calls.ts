import ffi from "node:ffi";

/**
 * The C library's functions as they are: bare numbers and addresses, -1 and errno. Nothing outside this package sees
 * them. What calls cost in Node 26.10 (x86-64, measured): no argument 5 ns, one 30, three 90–120, four and more about
 * 400, because Node's argument checks are specialised up to three arguments only. Hence `read` and `write` where
 * `recv` and `send` would do, and hence pointers as ready-made BigInts.
 */
const library = new ffi.DynamicLibrary(null);
const INT = "i32";
const UINT = "u32";
const POINTER = "pointer";
const SIZE = "u64";

export const calls = library.getFunctions({
  socket: { arguments: [INT, INT, INT], return: INT },
  socketpair: { arguments: [INT, INT, INT, POINTER], return: INT },
  bind: { arguments: [INT, POINTER, UINT], return: INT },
  listen: { arguments: [INT, INT], return: INT },
  accept4: { arguments: [INT, POINTER, POINTER, INT], return: INT },
  connect: { arguments: [INT, POINTER, UINT], return: INT },
  read: { arguments: [INT, POINTER, UINT], return: INT },
  write: { arguments: [INT, POINTER, UINT], return: INT },
  recvfrom: { arguments: [INT, POINTER, UINT, INT, POINTER, POINTER], return: INT },
  sendto: { arguments: [INT, POINTER, UINT, INT, POINTER, UINT], return: INT },
  recvmsg: { arguments: [INT, POINTER, INT], return: INT },
  sendmsg: { arguments: [INT, POINTER, INT], return: INT },
  shutdown: { arguments: [INT, INT], return: INT },
  close: { arguments: [INT], return: INT },
  fcntl: { arguments: [INT, INT, INT], return: INT },
  getsockname: { arguments: [INT, POINTER, POINTER], return: INT },
  getpeername: { arguments: [INT, POINTER, POINTER], return: INT },
  getsockopt: { arguments: [INT, INT, INT, POINTER, POINTER], return: INT },
  setsockopt: { arguments: [INT, INT, INT, POINTER, UINT], return: INT },
  epoll_create1: { arguments: [INT], return: INT },
  epoll_ctl: { arguments: [INT, INT, INT, POINTER], return: INT },
  epoll_wait: { arguments: [INT, POINTER, INT, INT], return: INT },
  eventfd: { arguments: [UINT, INT], return: INT },
  open: { arguments: [POINTER, INT, INT], return: INT },
  statx: { arguments: [INT, POINTER, INT, UINT, POINTER], return: INT },
  unshare: { arguments: [INT], return: INT },
  setns: { arguments: [INT, INT], return: INT },
  prlimit: { arguments: [INT, INT, POINTER, POINTER], return: INT },
  signal: { arguments: [INT, SIZE], return: SIZE },
  __errno_location: { arguments: [], return: POINTER },
});

/**
 * errno of this thread (every thread loads this module for itself, and its errno never moves), read as memory: a call
 * in between could change it.
 */
const errnoCell = new Int32Array(ffi.toArrayBuffer(calls.__errno_location(), 4, false));

/** The negative errno of the call that has just returned -1. Nothing may stand between that call and this one. */
export function lastError(): number {
  return -(errnoCell[0] as number);
}
