import { calls, lastError } from "./calls.ts";
import { F_DUPFD_CLOEXEC } from "./constants.ts";
import { Errno, SystemError } from "./errno.ts";

/** Kinds of live owned descriptors, by number. A thread has its own: descriptors belong to one thread. */
const ledger: (string | undefined)[] = [];
let live = 0;

/** What is open on this thread, one text each (`socket 17`): empty when nothing leaks. */
export function openDescriptors(): string[] {
  return ledger.flatMap((kind, fd) => (kind === undefined ? [] : [`${kind} ${fd}`]));
}

/** How many owned descriptors are open on this thread. */
export function openDescriptorCount(): number {
  return live;
}

/**
 * A descriptor with one owner. `fd` is -1 once it is closed, so that every later call gives -EBADF instead of reaching
 * whoever has the number next.
 */
export class Descriptor {
  /** The number, or -1. For the calls of this package and for /proc; never keep it. */
  fd: number;

  /** Takes ownership of an open descriptor. `kind` is for the ledger. */
  constructor(fd: number, kind: string) {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`${fd} is not a descriptor`);
    if (ledger[fd] !== undefined) throw new Error(`descriptor ${fd} is owned already, as ${ledger[fd]}`);
    this.fd = fd;
    ledger[fd] = kind;
    live++;
  }

  get closed(): boolean {
    return this.fd < 0;
  }

  /** Closes it once. Later calls do nothing. */
  close(): void {
    const fd = this.release();
    // An error of close(2) says that the number is free all the same, and there is nothing to do about it.
    if (fd >= 0) calls.close(fd);
  }

  /** Gives the number away, open: to a message to another thread, or to Node. -1 when it was closed. */
  release(): number {
    const fd = this.fd;
    if (fd < 0) return -1;
    this.fd = -1;
    ledger[fd] = undefined;
    live--;
    return fd;
  }

  /** A second descriptor of the same open file, close-on-exec. Throws SystemError. */
  duplicate(kind: string): Descriptor {
    return duplicateNumber(this.fd, kind);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A descriptor of our own for the open file behind a number that somebody else owns. Throws SystemError. */
export function duplicateNumber(fd: number, kind: string): Descriptor {
  const copy = calls.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw new SystemError(`duplicate descriptor ${fd}`, lastError());
  return new Descriptor(copy, kind);
}

/** What a call gives for a closed descriptor. */
export const CLOSED = -Errno.EBADF;
