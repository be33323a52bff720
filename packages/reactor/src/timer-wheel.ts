import { MeshError } from "@tulle/base";
import type { Timer } from "./contract.ts";

/** Resolution, ms: fine enough for deadlines, coarse enough that a thousand timers make few wake-ups. */
export const TICK_MS = 8;
/** Slots of a level; a slot of one level spans all slots of the one below. */
const SLOTS = 64;
/** 64 slots of 8 ms, 512 ms, 33 s and 35 min: 37 h in all. What is due later waits in the last level and is placed anew. */
const LEVELS = 4;
/** Ticks that one slot of each level spans. */
const SPANS = Array.from({ length: LEVELS }, (_, level) => SLOTS ** level);
/** Ticks that the whole wheel spans. */
const HORIZON = SLOTS ** LEVELS;
/** Live timers; a few per connection are expected. At the limit `add` throws TOO_MANY_TIMERS. */
export const MAX_TIMERS = 1_000_000;

/**
 * A hierarchical timing wheel: adding and cancelling cost the same however many timers there are. Time is given from
 * outside, in ms on any scale that never goes back. A timer is never early; timers of one tick fire in no promised order.
 */
export class TimerWheel {
  #tick: number;
  /** No slot that holds anything falls due before this tick. */
  #nextDue = Number.POSITIVE_INFINITY;
  #size = 0;
  readonly #slots = Array.from({ length: LEVELS * SLOTS }, () => new Link());

  constructor(now: number) {
    this.#tick = Math.floor(now / TICK_MS);
  }

  /** Live timers. */
  get size(): number {
    return this.#size;
  }

  /** `now` must be the time of the call, not an older one: the delay counts from it. */
  add(now: number, delayMs: number, callback: () => void): Timer {
    if (Number.isNaN(delayMs)) throw new RangeError("a timer's delay is not a number");
    if (this.#size >= MAX_TIMERS) {
      throw new MeshError(`${MAX_TIMERS} timers are set already`, { code: "TOO_MANY_TIMERS", side: "internal" });
    }
    const due = Math.ceil((now + Math.max(0, delayMs)) / TICK_MS);
    const timer = new WheelTimer(this, Math.max(due, this.#tick + 1), callback);
    this.#size++;
    this.#place(timer);
    return timer;
  }

  /** Milliseconds from `now` until `advance` has something to do; Infinity when there is no timer. */
  delay(now: number): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : Math.max(0, this.#nextDue * TICK_MS - now);
  }

  /** Hands every callback that is due at `now` to `run`; returns how many. */
  advance(now: number, run: (callback: () => void) => void): number {
    const target = Math.floor(now / TICK_MS);
    let fired = 0;
    while (this.#size > 0 && this.#nextDue <= target) {
      this.#tick = this.#nextDue;
      this.#cascade();
      const slot = this.#slots[this.#tick % SLOTS] as Link;
      while (slot.next !== slot) {
        const timer = slot.next as WheelTimer;
        this.remove(timer);
        fired++;
        run(timer.callback);
      }
      this.#nextDue = this.#findNextDue();
    }
    if (target > this.#tick) this.#tick = target;
    return fired;
  }

  /** Cancels everything. */
  clear(): void {
    for (const slot of this.#slots) while (slot.next !== slot) this.remove(slot.next as WheelTimer);
  }

  /** For WheelTimer: takes a timer out, if it is in. */
  remove(timer: WheelTimer): void {
    if (!timer.linked) return;
    timer.unlink();
    this.#size--;
  }

  #place(timer: WheelTimer): void {
    const ahead = timer.due - this.#tick;
    let level = 0;
    while (level < LEVELS - 1 && ahead >= (SPANS[level + 1] as number)) level++;
    const span = SPANS[level] as number;
    const at = Math.floor((ahead < HORIZON ? timer.due : this.#tick + HORIZON - 1) / span);
    (this.#slots[level * SLOTS + (at % SLOTS)] as Link).append(timer);
    if (at * span < this.#nextDue) this.#nextDue = at * span;
  }

  /** Moves what lies in the upper levels' slots that begin at this tick down to where it is due. */
  #cascade(): void {
    for (let level = LEVELS - 1; level > 0; level--) {
      const span = SPANS[level] as number;
      if (this.#tick % span !== 0) continue;
      const slot = this.#slots[level * SLOTS + ((this.#tick / span) % SLOTS)] as Link;
      while (slot.next !== slot) {
        const timer = slot.next as WheelTimer;
        timer.unlink();
        this.#place(timer);
      }
    }
  }

  #findNextDue(): number {
    let due = Number.POSITIVE_INFINITY;
    for (let level = 0; level < LEVELS; level++) {
      const span = SPANS[level] as number;
      const base = Math.floor(this.#tick / span);
      for (let i = 1; i <= SLOTS && (base + i) * span < due; i++) {
        const slot = this.#slots[level * SLOTS + ((base + i) % SLOTS)] as Link;
        if (slot.next !== slot) due = (base + i) * span;
      }
    }
    return due;
  }
}

/** A ring: the slot itself is the ring's start. */
class Link {
  next: Link = this;
  previous: Link = this;

  append(link: Link): void {
    link.previous = this.previous;
    link.next = this;
    this.previous.next = link;
    this.previous = link;
  }
}

class WheelTimer extends Link implements Timer {
  readonly due: number;
  readonly callback: () => void;
  readonly #wheel: TimerWheel;

  constructor(wheel: TimerWheel, due: number, callback: () => void) {
    super();
    this.#wheel = wheel;
    this.due = due;
    this.callback = callback;
  }

  get linked(): boolean {
    return this.next !== this;
  }

  unlink(): void {
    this.previous.next = this.next;
    this.next.previous = this.previous;
    this.next = this;
    this.previous = this;
  }

  cancel(): void {
    this.#wheel.remove(this);
  }
}
