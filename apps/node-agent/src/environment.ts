/** Environment variables as typed values. What is wrong is collected, so that a user sees all of it at once. */
export class EnvironmentReader {
  readonly problems: string[] = [];
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  problem(text: string): void {
    this.problems.push(text);
  }

  /** An empty variable counts as unset: charts set many of them so. */
  text(name: string): string | undefined {
    const value = this.#env[name]?.trim();
    return value === "" ? undefined : value;
  }

  required(name: string, hint: string): string {
    const value = this.text(name);
    if (value === undefined) this.problem(`${name} is not set: ${hint}`);
    return value ?? "";
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.text(name);
    if (value === undefined) return fallback;
    if (value === "true" || value === "false") return value === "true";
    this.problem(`${name} is "${value}", but must be true or false`);
    return fallback;
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const known = values.find((one) => one === value);
    if (known === undefined) this.problem(`${name} is "${value}", but must be ${values.join(" or ")}`);
    return known ?? fallback;
  }

  /** Milliseconds; written in seconds: `10s`, `2.5s`. */
  seconds(name: string, fallbackMs: number, maxMs: number): number {
    const value = this.text(name);
    if (value === undefined) return fallbackMs;
    const ms = /^\d{1,6}(\.\d{1,3})?s$/.test(value) ? Number.parseFloat(value) * 1000 : Number.NaN;
    if (ms <= maxMs) return ms;
    this.problem(`${name} is "${value}", but must be a time such as 10s, at most ${maxMs / 1000}s`);
    return fallbackMs;
  }

  /** An absolute path. */
  path(name: string, fallback: string): string {
    const value = this.text(name) ?? fallback;
    if (!value.startsWith("/")) this.problem(`${name} is "${value}", but must be an absolute path`);
    return value;
  }

  port(name: string, fallback: number): number {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const port = /^\d{1,5}$/.test(value) ? Number(value) : Number.NaN;
    if (port <= 0xffff) return port;
    this.problem(`${name} is "${value}", but must be a port`);
    return fallback;
  }
}
