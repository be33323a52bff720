import { type Descriptor, EpollSet, orThrow, Readiness } from "@tulle/linux";
import type { Connection } from "./contract.ts";
import { SlotTable } from "./slot-table.ts";
import { TurnQueue } from "./turn-queue.ts";

/** What one connection may read in a turn before the others get theirs: about 100 µs of copying, and as many calls. */
export const READ_BYTES_PER_TURN = 512 * 1024;
export const READ_CALLS_PER_TURN = 16;
/** Connections that one listener may accept in a turn. */
export const ACCEPTS_PER_TURN = 64;
/** Datagrams that one socket may receive in a turn. */
export const DATAGRAMS_PER_TURN = 64;
/** Pause after accept ran out of descriptors or memory. */
export const ACCEPT_BACKOFF_MS = 100;
/** A thread that waits longer could not be ended in time. */
export const LONGEST_WAIT_MS = 1000;

/** Edge-triggered, registered once and never changed: what became ready is remembered by the object itself. */
export const STREAM_INTEREST =
  Readiness.readable | Readiness.writable | Readiness.peerClosed | Readiness.urgent | Readiness.edgeTriggered;
export const DATAGRAM_INTEREST = Readiness.readable | Readiness.edgeTriggered;
/** Level-triggered: what was not accepted in this turn is reported again in the next, without a call that finds nothing. */
export const LISTENER_INTEREST = Readiness.readable;

/** Whatever has events. */
export interface EventTarget {
  onEvents(events: number): void;
  /** Closes it because the reactor closes. */
  close(): void;
}

/** What the parts of the epoll reactor share; the reactor itself is what users see. */
export class EpollCore {
  readonly epoll = new EpollSet();
  readonly targets = new SlotTable<EventTarget>();
  /** Connections that have more to read than their share of the last turn allowed. */
  readonly ready = new TurnQueue();
  readonly open = { listeners: 0, connections: 0, datagrams: 0 };
  turn = 0;
  nextConnectionId = 1;
  faults = 0;
  readonly #onFault: ((error: unknown) => void) | undefined;

  constructor(onFault: ((error: unknown) => void) | undefined) {
    this.#onFault = onFault;
  }

  /** Registers a target and returns its slot. Throws SystemError. */
  register(target: EventTarget, descriptor: Descriptor, interest: number): number {
    const slot = this.targets.add(target);
    const error = this.epoll.add(descriptor, interest, slot, this.targets.generation(slot));
    if (error < 0) {
      this.targets.remove(slot);
      orThrow(error, "register a descriptor with epoll");
    }
    return slot;
  }

  setInterest(slot: number, descriptor: Descriptor, interest: number): void {
    orThrow(this.epoll.modify(descriptor, interest, slot, this.targets.generation(slot)), "change an epoll interest");
  }

  /** Ends the set itself, after all targets were closed. */
  close(): void {
    this.ready.clear();
    this.epoll.close();
  }

  /** A handler has thrown: its connection, if it has one, is reset, and nothing else happens. */
  fault(error: unknown, connection?: Connection): void {
    this.faults++;
    connection?.reset();
    try {
      this.#onFault?.(error);
    } catch {
      // Who is told of faults cannot be told of its own; the count above has it.
      this.faults++;
    }
  }
}
