import { MeshError, type ErrorSide } from "@tulle/base";

/** Errno numbers that code decides by. The same on x86-64 and arm64 (asm-generic). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EEXIST: 17,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EPIPE: 32,
  EPROTO: 71,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  EINPROGRESS: 115,
  ESTALE: 116,
  ECANCELED: 125,
} as const;

/** What a person reads. Only the errors that sockets, namespaces and limits can give. */
const TEXTS: Readonly<Record<keyof typeof Errno, string>> = {
  EPERM: "operation not permitted",
  ENOENT: "no such file or directory",
  ESRCH: "no such process, or route",
  EINTR: "interrupted by a signal",
  EIO: "input/output error",
  EBADF: "the descriptor is closed",
  EAGAIN: "no progress now",
  ENOMEM: "out of memory",
  EACCES: "permission denied",
  EFAULT: "bad address",
  EEXIST: "exists already",
  EINVAL: "invalid argument",
  ENFILE: "the system has no free descriptor",
  EMFILE: "the process has no free descriptor",
  ENOSPC: "no space left",
  EPIPE: "the peer has stopped reading",
  EPROTO: "protocol error",
  EMSGSIZE: "message too long",
  ENOPROTOOPT: "option not available",
  EPROTONOSUPPORT: "protocol not supported",
  EOPNOTSUPP: "operation not supported",
  EAFNOSUPPORT: "address family not supported",
  EADDRINUSE: "address already in use",
  EADDRNOTAVAIL: "address not available",
  ENETDOWN: "network is down",
  ENETUNREACH: "network unreachable",
  ECONNABORTED: "connection aborted",
  ECONNRESET: "connection reset by peer",
  ENOBUFS: "no buffer space",
  EISCONN: "connected already",
  ENOTCONN: "not connected",
  ETIMEDOUT: "timed out",
  ECONNREFUSED: "connection refused",
  EHOSTUNREACH: "host unreachable",
  EINPROGRESS: "in progress",
  ESTALE: "the handle is stale",
  ECANCELED: "cancelled",
};

const NAMES: ReadonlyMap<number, keyof typeof Errno> = new Map(
  Object.entries(Errno).map(([name, number]) => [number, name as keyof typeof Errno]),
);

/** `ECONNREFUSED` for 111 and for -111; `errno 200` for a number that the table does not hold. */
export function errnoName(error: number): string {
  const number = Math.abs(error);
  return NAMES.get(number) ?? `errno ${number}`;
}

/** "connection refused" for 111 and for -111. */
export function errnoText(error: number): string {
  const name = NAMES.get(Math.abs(error));
  return name === undefined ? errnoName(error) : TEXTS[name];
}

/** A system call that failed: `code` is the errno's name, `errno` its (positive) number. */
export class SystemError extends MeshError {
  readonly errno: number;
  readonly operation: string;

  /** `error`: positive or negative errno. `operation`: what was tried, with its object: `bind [::]:15001`. */
  constructor(operation: string, error: number, side: ErrorSide = "internal") {
    super(`${operation}: ${errnoText(error)} (${errnoName(error)})`, { code: errnoName(error), side });
    this.name = "SystemError";
    this.errno = Math.abs(error);
    this.operation = operation;
  }
}

/** Returns a result that is not negative; throws SystemError for a negative one. */
export function orThrow(result: number, operation: string): number {
  if (result < 0) throw new SystemError(operation, result);
  return result;
}
