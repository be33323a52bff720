/** Of ztunnel's `/config_dump`: what a control plane has told it. */
export interface ToldState {
  readonly workloads: readonly object[];
  readonly services: readonly object[];
  readonly policies: readonly object[];
}

interface Named {
  readonly uid?: string;
  readonly namespace?: string;
  readonly hostname?: string;
  readonly name?: string;
}

/** Where two control planes say different things of the same objects, a line each: `service ns/host waypoint: …, ours: …`. */
export function differences(theirs: ToldState, ours: ToldState): string[] {
  return (["workloads", "services", "policies"] as const).flatMap((kind) => {
    const [a, b] = [byName(theirs[kind]), byName(ours[kind])];
    const names = [...new Set([...a.keys(), ...b.keys()])].toSorted();
    return names.flatMap((name) => compare(`${kind} ${name}`, a.get(name), b.get(name)));
  });
}

function byName(objects: readonly object[]): Map<string, object> {
  return new Map(
    objects.map((object) => {
      const { uid, namespace = "", hostname, name = "" } = object as Named;
      return [uid ?? `${namespace}/${hostname ?? name}`, object];
    }),
  );
}

function compare(path: string, theirs: unknown, ours: unknown): string[] {
  if (isObject(theirs) && isObject(ours)) {
    const keys = [...new Set([...Object.keys(theirs), ...Object.keys(ours)])].toSorted();
    return keys.flatMap((key) => compare(`${path} ${key}`, theirs[key], ours[key]));
  }
  const [a, b] = [canonical(theirs), canonical(ours)];
  return a === b ? [] : [`${path}: ${a ?? "nothing"}, ours: ${b ?? "nothing"}`];
}

/** The order of a list says nothing here. */
function canonical(value: unknown): string | undefined {
  if (!Array.isArray(value)) return JSON.stringify(value, sorted);
  return `[${value
    .map((one) => JSON.stringify(one, sorted))
    .toSorted()
    .join(",")}]`;
}

function sorted(_key: string, value: unknown): unknown {
  return isObject(value) ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))) : value;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
