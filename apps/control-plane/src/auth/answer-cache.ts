/** Answers that are good until some time; when there are too many, the oldest go. */
export class AnswerCache<T> {
  readonly #max: number;
  readonly #wall: () => number;
  readonly #answers = new Map<string, { readonly value: T; readonly until: number }>();

  constructor(options: { readonly max: number; readonly wall: () => number }) {
    this.#max = options.max;
    this.#wall = options.wall;
  }

  get(key: string): T | undefined {
    const answer = this.#answers.get(key);
    if (answer === undefined) return undefined;
    if (answer.until > this.#wall()) return answer.value;
    this.#answers.delete(key);
    return undefined;
  }

  /** `until`: milliseconds since the epoch. */
  set(key: string, value: T, until: number): void {
    this.#answers.delete(key);
    const oldest = this.#answers.size < this.#max ? undefined : this.#answers.keys().next().value;
    if (oldest !== undefined) this.#answers.delete(oldest);
    this.#answers.set(key, { value, until });
  }
}
