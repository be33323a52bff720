import { calls, lastError } from "./calls.ts";
import * as k from "./constants.ts";
import { Descriptor, duplicateNumber } from "./descriptor.ts";
import { SystemError } from "./errno.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** A non-blocking eventfd, for the thread that is to be woken. Throws SystemError. */
export function openEventDescriptor(): Descriptor {
  const fd = calls.eventfd(0, k.EFD_NONBLOCK | k.EFD_CLOEXEC);
  if (fd < 0) throw new SystemError("create an eventfd", lastError());
  return new Descriptor(fd, "eventfd");
}

/** eventfd(2): each write adds this to the counter. */
const COUNT_SIZE = 8;

/**
 * Wakes a reactor of another thread. It has its own duplicate of the reactor's eventfd, so that waking one that has been
 * closed goes nowhere instead of into a descriptor that got the same number.
 */
export class Waker {
  readonly #descriptor: Descriptor;
  readonly #one = NativeBuffer.alloc(COUNT_SIZE);

  /** `wakeDescriptor` is the reactor's, which must be open still. Throws SystemError. */
  constructor(wakeDescriptor: number) {
    this.#descriptor = duplicateNumber(wakeDescriptor, "waker");
    this.#one.bytes[0] = 1;
  }

  /** Wakes the reactor; a wake-up that is pending already is enough. After `close` it does nothing. */
  wake(): void {
    // -EAGAIN alone can come of it: the counter is full, hence a wake-up is pending.
    if (!this.#descriptor.closed) calls.write(this.#descriptor.fd, this.#one.pointer, COUNT_SIZE);
  }

  close(): void {
    this.#descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
