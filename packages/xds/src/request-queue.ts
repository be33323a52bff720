/** Requests on their way to a stream: pushed here, pulled by the transport. */
export class RequestQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #limit: number;
  /** Readers that came before there was anything; a transport may have several out. */
  readonly #waiting: ((result: IteratorResult<T>) => void)[] = [];
  #ended = false;

  /** More than `limit` waiting items are an error: the other side does not read. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Throws Error when too many wait. After `end` it does nothing. */
  push(item: T): void {
    if (this.#ended) return;
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) {
      waiting({ done: false, value: item });
      return;
    }
    if (this.#items.length >= this.#limit) throw new Error(`more than ${this.#limit} requests wait to be sent`);
    this.#items.push(item);
  }

  end(): void {
    this.#ended = true;
    for (const waiting of this.#waiting.splice(0)) waiting({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return {
      next: () => {
        const item = this.#items.shift();
        if (item !== undefined) return Promise.resolve({ done: false, value: item });
        if (this.#ended) return Promise.resolve({ done: true, value: undefined });
        return new Promise((resolve) => {
          this.#waiting.push(resolve);
        });
      },
      return: () => this.#stop(),
      // The transport says so when the stream has failed; connect demands that it can.
      throw: () => this.#stop(),
    };
  }

  #stop(): Promise<IteratorResult<T>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }
}
