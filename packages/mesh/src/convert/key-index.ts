import type { Labels } from "./kubernetes.ts";
import { selects } from "./kubernetes.ts";

/** Names under keys that several may share. Most keys have one, which is kept as it is to save memory. */
export class KeyIndex {
  readonly #entries = new Map<string, string | Set<string>>();

  get(key: string): Iterable<string> {
    const entry = this.#entries.get(key);
    if (entry === undefined) return NONE;
    return typeof entry === "string" ? [entry] : entry;
  }

  /** Every key with the names under it. */
  *entries(): Iterable<readonly [key: string, names: Iterable<string>]> {
    for (const key of this.#entries.keys()) yield [key, this.get(key)];
  }

  count(key: string): number {
    const entry = this.#entries.get(key);
    if (entry === undefined) return 0;
    return typeof entry === "string" ? 1 : entry.size;
  }

  add(key: string, name: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) this.#entries.set(key, name);
    else if (typeof entry !== "string") entry.add(name);
    else if (entry !== name) this.#entries.set(key, new Set([entry, name]));
  }

  remove(key: string, name: string): void {
    const entry = this.#entries.get(key);
    if (entry === name) this.#entries.delete(key);
    if (entry === undefined || typeof entry === "string") return;
    entry.delete(name);
    if (entry.size === 0) this.#entries.delete(key);
  }

  /** `name` was under the keys `before` and is under the keys `after`. */
  move(name: string, before: Iterable<string>, after: Iterable<string>): void {
    const kept = new Set(after);
    for (const key of before) if (!kept.has(key)) this.remove(key, name);
    for (const key of kept) this.add(key, name);
  }
}

const NONE: readonly string[] = [];

/** Things with labels in namespaces, found by selector without asking each of them. */
export class LabelIndex {
  readonly #byLabel = new KeyIndex();
  readonly #labels = new Map<string, { readonly namespace: string; readonly labels: Labels }>();
  readonly #namespaces = new Map<string, number>();

  /** undefined: it is gone. */
  set(name: string, namespace: string, labels: Labels | undefined): void {
    const known = this.#labels.get(name);
    this.#byLabel.move(
      name,
      known === undefined ? [] : keysOf(known),
      labels === undefined ? [] : keysOf({ namespace, labels }),
    );
    this.#count(namespace, (labels === undefined ? 0 : 1) - (known === undefined ? 0 : 1));
    if (labels === undefined) this.#labels.delete(name);
    else this.#labels.set(name, { namespace, labels });
  }

  /** Of one namespace, or of all. An empty selector finds nothing. */
  *find(selector: Labels, namespace?: string): Iterable<string> {
    const wanted = Object.entries(selector);
    for (const home of namespace === undefined ? this.#namespaces.keys() : [namespace]) {
      let rarest: string | undefined;
      for (const [label, value] of wanted) {
        const key = keyOf(home, label, value);
        if (rarest === undefined || this.#byLabel.count(key) < this.#byLabel.count(rarest)) rarest = key;
      }
      if (rarest === undefined) return;
      for (const name of this.#byLabel.get(rarest)) {
        if (selects(selector, this.#labels.get(name)?.labels)) yield name;
      }
    }
  }

  #count(namespace: string, difference: number): void {
    const count = (this.#namespaces.get(namespace) ?? 0) + difference;
    if (count === 0) this.#namespaces.delete(namespace);
    else this.#namespaces.set(namespace, count);
  }
}

function keysOf({ namespace, labels }: { readonly namespace: string; readonly labels: Labels }): readonly string[] {
  return Object.entries(labels).map(([label, value]) => keyOf(namespace, label, value));
}

/** Labels hold no spaces. */
function keyOf(namespace: string, label: string, value: string): string {
  return `${namespace} ${label} ${value}`;
}
