/** One thing that will happen at a virtual time. */
export interface SimulatedEvent {
  readonly at: number;
  readonly run: () => void;
}

interface Entry extends SimulatedEvent {
  readonly order: number;
  cancelled: boolean;
}

/** Events in the order of time, and in the order of asking at equal times: a binary heap. */
export class EventQueue {
  readonly #heap: Entry[] = [];
  #order = 0;

  add(at: number, run: () => void): { cancel(): void } {
    const entry: Entry = { at, run, order: this.#order++, cancelled: false };
    if (Number.isFinite(at)) this.#push(entry);
    return {
      cancel() {
        entry.cancelled = true;
      },
    };
  }

  /** The next event at or before `deadline`. */
  takeBefore(deadline: number): SimulatedEvent | undefined {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || (!first.cancelled && first.at > deadline)) return undefined;
      this.#pop();
      if (!first.cancelled) return first;
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (before(heap[parent] as Entry, entry)) break;
      heap[index] = heap[parent] as Entry;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Entry;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Entry, heap[child] as Entry)) child++;
      if (before(last, heap[child] as Entry)) break;
      heap[index] = heap[child] as Entry;
      index = child;
    }
    heap[index] = last;
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
