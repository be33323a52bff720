import { calls, lastError } from "./calls.ts";
import * as k from "./constants.ts";
import { Descriptor } from "./descriptor.ts";
import { orThrow, SystemError } from "./errno.ts";
import { architectureOf, epollEventLayouts } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** Bits of `EpollSet.events`. */
export const Readiness = {
  readable: k.EPOLLIN,
  urgent: k.EPOLLPRI,
  writable: k.EPOLLOUT,
  error: k.EPOLLERR,
  hangUp: k.EPOLLHUP,
  peerClosed: k.EPOLLRDHUP,
  edgeTriggered: k.EPOLLET,
} as const;

/** Events taken from the kernel in one call: more wait in the kernel for the next one. */
const EVENTS_PER_WAIT = 512;

/**
 * An epoll set. A descriptor is registered with two numbers of the caller's (a slot and its generation), which come back
 * with its events. Closing a descriptor takes it out.
 */
export class EpollSet {
  readonly #descriptor: Descriptor;
  readonly #words: Int32Array;
  readonly #pointer: bigint;
  readonly #stride: number;
  readonly #eventsWord: number;
  readonly #dataWord: number;
  readonly #control: NativeBuffer;
  readonly #controlWords: Int32Array;
  readonly #memory: NativeBuffer;

  /** Throws SystemError. */
  constructor() {
    const layout = epollEventLayouts[architectureOf(process.arch)];
    this.#stride = layout.size >> 2;
    this.#eventsWord = layout.events >> 2;
    this.#dataWord = layout.data >> 2;
    this.#memory = NativeBuffer.alloc(layout.size * EVENTS_PER_WAIT);
    this.#words = new Int32Array(this.#memory.bytes.buffer);
    this.#pointer = this.#memory.pointer;
    this.#control = NativeBuffer.alloc(layout.size);
    this.#controlWords = new Int32Array(this.#control.bytes.buffer);
    const fd = calls.epoll_create1(k.EPOLL_CLOEXEC);
    if (fd < 0) throw new SystemError("create an epoll set", lastError());
    this.#descriptor = new Descriptor(fd, "epoll");
  }

  /** 0 or a negative errno. `slot` and `generation` are 32-bit integers. */
  add(target: Descriptor, interest: number, slot: number, generation: number): number {
    return this.#change(k.EPOLL_CTL_ADD, target, interest, slot, generation);
  }

  modify(target: Descriptor, interest: number, slot: number, generation: number): number {
    return this.#change(k.EPOLL_CTL_MOD, target, interest, slot, generation);
  }

  /** Throws SystemError: what a reactor cannot work without. */
  addOrThrow(target: Descriptor, interest: number, slot: number, generation: number): void {
    orThrow(this.add(target, interest, slot, generation), "register a descriptor with epoll");
  }

  /** Waits for at most `timeoutMs` (-1: for ever); returns how many events there are, or a negative errno (-EINTR). */
  wait(timeoutMs: number): number {
    const count = calls.epoll_wait(this.#descriptor.fd, this.#pointer, EVENTS_PER_WAIT, timeoutMs);
    return count < 0 ? lastError() : count;
  }

  /** What the event at `index` says: bits of `Readiness`. */
  events(index: number): number {
    return this.#words[index * this.#stride + this.#eventsWord] as number;
  }

  slot(index: number): number {
    return this.#words[index * this.#stride + this.#dataWord] as number;
  }

  generation(index: number): number {
    return this.#words[index * this.#stride + this.#dataWord + 1] as number;
  }

  get closed(): boolean {
    return this.#descriptor.closed;
  }

  close(): void {
    this.#descriptor.close();
  }

  #change(operation: number, target: Descriptor, interest: number, slot: number, generation: number): number {
    this.#controlWords[this.#eventsWord] = interest;
    this.#controlWords[this.#dataWord] = slot;
    this.#controlWords[this.#dataWord + 1] = generation;
    const result = calls.epoll_ctl(this.#descriptor.fd, operation, target.fd, this.#control.pointer);
    return result < 0 ? lastError() : 0;
  }
}
