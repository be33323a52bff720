/** What all ztunnels know of the mesh is the same, or should be: one list, and who lacks what. */
export interface Merged<T> {
  readonly entries: readonly T[];
  /** `n2 does not know demo/echo`. */
  readonly differences: readonly string[];
}

/** Differences that are told one by one. */
const MAX_TOLD = 10;

/** `key` names an entry for people, too. */
export function mergeNodes<T>(
  nodes: readonly { readonly node: string; readonly entries: readonly T[] }[],
  key: (entry: T) => string,
): Merged<T> {
  const merged = new Map<string, { readonly entry: T; readonly text: string; readonly node: string }>();
  const differences: string[] = [];
  const known = nodes.map(({ node, entries }) => {
    const keys = new Set<string>();
    for (const entry of entries) {
      const name = key(entry);
      keys.add(name);
      const text = JSON.stringify(entry);
      const before = merged.get(name);
      if (before === undefined) merged.set(name, { entry, text, node });
      else if (before.text !== text) differences.push(`${node} knows another ${name} than ${before.node}`);
    }
    return { node, keys };
  });
  for (const name of merged.keys()) {
    const lacking = known.filter(({ keys }) => !keys.has(name)).map(({ node }) => node);
    if (lacking.length > 0) differences.push(`${lacking.join(", ")} does not know ${name}`);
  }
  const more = differences.length - MAX_TOLD;
  return {
    entries: [...merged.values()].map(({ entry }) => entry),
    differences: more > 0 ? [...differences.slice(0, MAX_TOLD), `and ${more} more`] : differences,
  };
}
