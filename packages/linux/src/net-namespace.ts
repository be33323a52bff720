import { calls, lastError } from "./calls.ts";
import { AT_EMPTY_PATH, CLONE_NEWNET, O_CLOEXEC, O_RDONLY, STATX_INO } from "./constants.ts";
import { Descriptor } from "./descriptor.ts";
import { Errno, SystemError } from "./errno.ts";
import { statxLayout } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** Where a thread's own network namespace is found. */
const OWN_NAMESPACE = "/proc/thread-self/ns/net";

const EMPTY_PATH = NativeBuffer.alloc(1);
const statxMemory = NativeBuffer.alloc(statxLayout.size);

/** The thread's own namespace: opened with the first NetNamespace of the thread, closed with the last one. */
interface Home {
  readonly descriptor: Descriptor;
  readonly key: string;
  users: number;
}
let home: Home | undefined;
let inside = false;

/**
 * A network namespace that is held open. `key` (`device:inode`) is unique among the namespaces that exist; it is checked
 * each time before the namespace is entered, so that a descriptor number that was closed and given to something else is
 * refused. Belongs to one thread: another one gets `duplicateNumber` of its own.
 */
export class NetNamespace {
  readonly key: string;
  readonly #descriptor: Descriptor;

  private constructor(descriptor: Descriptor, key: string) {
    this.#descriptor = descriptor;
    this.key = key;
  }

  /** Opens `/var/run/netns/x`, `/proc/PID/ns/net` … Throws SystemError. */
  static open(path: string): NetNamespace {
    return NetNamespace.adopt(openPath(path, "netns"));
  }

  /** A new one, with nothing in it but a loopback device that is down; it ends with its last handle. Throws SystemError. */
  static create(): NetNamespace {
    if (inside) throw new Error("a network namespace is entered already: leave it first");
    useHome();
    const back = home as Home;
    try {
      if (calls.unshare(CLONE_NEWNET) < 0) throw new SystemError("make a network namespace", lastError());
      let made: Descriptor;
      try {
        made = openPath(OWN_NAMESPACE, "netns");
      } finally {
        returnHome(back);
      }
      return NetNamespace.adopt(made);
    } finally {
      leaveHome();
    }
  }

  /** Takes over a descriptor of a namespace (and closes it when it is none). Throws SystemError. */
  static adopt(descriptor: Descriptor): NetNamespace {
    try {
      const key = inodeKey(descriptor.fd, "look at a network namespace");
      useHome();
      const namespace = new NetNamespace(descriptor, key);
      try {
        // Entering it once shows that it is a network namespace and that this process may enter it.
        namespace.enter(() => undefined);
      } catch (error) {
        leaveHome();
        throw error;
      }
      return namespace;
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  /** The descriptor's number, for another thread to duplicate while this one is open; -1 when closed. */
  get descriptor(): number {
    return this.#descriptor.fd;
  }

  /**
   * A second handle that holds the namespace but not the file by which it was opened: a bind mount can be unmounted while
   * such a handle is open. Throws SystemError.
   */
  withoutFile(): NetNamespace {
    return NetNamespace.adopt(this.enter(() => openPath(OWN_NAMESPACE, "netns")));
  }

  /** A second handle with its own descriptor. Throws SystemError. */
  duplicate(): NetNamespace {
    return NetNamespace.adopt(this.#descriptor.duplicate("netns"));
  }

  /**
   * Runs `create` inside the namespace: only for what makes sockets or reads /proc/sys/net; it must be synchronous and
   * brief. Throws SystemError (ESTALE when the descriptor is no longer the namespace it was). When the way back fails the
   * process is aborted: a thread that is left in a pod's namespace would make every later socket there.
   */
  enter<T>(create: () => T): T {
    if (inside) throw new Error("a network namespace is entered already: leave it first");
    const back = home;
    const operation = `enter network namespace ${this.key}`;
    if (this.closed || back === undefined) throw new SystemError(operation, Errno.EBADF);
    if (inodeKey(this.#descriptor.fd, operation) !== this.key) throw new SystemError(operation, Errno.ESTALE);
    if (calls.setns(this.#descriptor.fd, CLONE_NEWNET) < 0) throw new SystemError(operation, lastError());
    inside = true;
    try {
      return create();
    } finally {
      inside = false;
      returnHome(back);
    }
  }

  close(): void {
    if (this.closed) return;
    this.#descriptor.close();
    leaveHome();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The key of the network namespace this thread is in now. Throws SystemError. */
export function currentNamespaceKey(): string {
  const descriptor = openPath(OWN_NAMESPACE, "own netns");
  try {
    return inodeKey(descriptor.fd, "look at the thread's network namespace");
  } finally {
    descriptor.close();
  }
}

/** setns says where it went by its argument alone, so the argument is looked at: home's descriptor must still be home. */
function returnHome(back: Home): void {
  try {
    const result = calls.setns(back.descriptor.fd, CLONE_NEWNET);
    if (result === 0 && inodeKey(back.descriptor.fd, "return") === back.key) return;
  } catch {
    // Whatever it was, the thread cannot be shown to be at home: abort below.
  }
  process.abort();
}

function useHome(): void {
  if (home === undefined) {
    const descriptor = openPath(OWN_NAMESPACE, "own netns");
    home = { descriptor, key: inodeKey(descriptor.fd, "look at the thread's network namespace"), users: 0 };
  }
  home.users++;
}

function leaveHome(): void {
  if (home === undefined || --home.users > 0) return;
  home.descriptor.close();
  home = undefined;
}

function openPath(path: string, kind: string): Descriptor {
  const name = NativeBuffer.from(Buffer.from(`${path}\0`));
  const fd = calls.open(name.pointer, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) throw new SystemError(`open ${path}`, lastError());
  return new Descriptor(fd, kind);
}

/** `device:inode` of an open descriptor. */
function inodeKey(fd: number, operation: string): string {
  if (calls.statx(fd, EMPTY_PATH.pointer, AT_EMPTY_PATH, STATX_INO, statxMemory.pointer) < 0) {
    throw new SystemError(operation, lastError());
  }
  const { bytes } = statxMemory;
  const device = `${bytes.readUInt32LE(statxLayout.deviceMajor)}.${bytes.readUInt32LE(statxLayout.deviceMinor)}`;
  // Namespace inodes are 32-bit numbers (proc_alloc_inum).
  return `${device}:${bytes.readUInt32LE(statxLayout.inode)}`;
}
