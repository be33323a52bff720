/** Small checks for YAML values. They answer with problems instead of throwing, so that one file shows all its faults at once. */

export type Path = readonly (string | number)[];

export interface Finding {
  readonly path: Path;
  readonly message: string;
}

export type Check = (value: unknown, path: Path, report: (path: Path, message: string) => void) => void;

/** All problems of `value`, in the order of the document. */
export function findings(value: unknown, check: Check): Finding[] {
  const found: Finding[] = [];
  check(value, [], (path, message) => found.push({ path, message }));
  return found;
}

/** `spec.containers[0].image`. */
export function formatPath(path: Path): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}

/**
 * An object with exactly these fields. A field that is not listed is refused by name: in Kubernetes it would change
 * behaviour, and a mesh that silently ignores it would mislead.
 */
export function object(fields: Readonly<Record<string, Check>>, required: readonly string[] = []): Check {
  return (value, path, report) => {
    if (!isRecord(value)) return report(path, `must be an object, not ${kindOf(value)}`);
    for (const [name, part] of Object.entries(value)) {
      const check = Object.hasOwn(fields, name) ? fields[name] : undefined;
      if (check === undefined) report([...path, name], "is not supported by the local mesh: remove it");
      else if (part !== null && part !== undefined) check(part, [...path, name], report);
    }
    for (const name of required) {
      if (value[name] === undefined || value[name] === null) report(path, `must have "${name}"`);
    }
  };
}

export function list(item: Check, limits: { readonly min?: number; readonly max?: number } = {}): Check {
  const { min = 0, max = Number.POSITIVE_INFINITY } = limits;
  return (value, path, report) => {
    if (!Array.isArray(value)) return report(path, `must be a list, not ${kindOf(value)}`);
    if (value.length < min) report(path, `must have at least ${min} ${min === 1 ? "entry" : "entries"}`);
    if (value.length > max) report(path, `must have at most ${max} entries`);
    value.forEach((part, index) => item(part, [...path, index], report));
  };
}

/** Any keys, values of one kind. */
export function mapOf(item: Check): Check {
  return (value, path, report) => {
    if (!isRecord(value)) return report(path, `must be a map, not ${kindOf(value)}`);
    for (const [name, part] of Object.entries(value)) item(part, [...path, name], report);
  };
}

export function string(pattern?: RegExp, says = "is malformed"): Check {
  return (value, path, report) => {
    if (typeof value !== "string") return report(path, `must be a string, not ${kindOf(value)}${quoteHint(value)}`);
    if (pattern !== undefined && !pattern.test(value)) report(path, `"${value}" ${says}`);
  };
}

export function integer(min: number, max: number): Check {
  return (value, path, report) => {
    if (typeof value !== "number" || !Number.isInteger(value)) {
      report(path, `must be a whole number, not ${kindOf(value)}`);
    } else if (value < min || value > max) report(path, `must be from ${min} to ${max}, not ${value}`);
  };
}

export const boolean: Check = (value, path, report) => {
  if (typeof value !== "boolean") report(path, `must be true or false, not ${kindOf(value)}`);
};

export function oneOf(...allowed: readonly (string | number | boolean)[]): Check {
  return (value, path, report) => {
    if (allowed.includes(value as string)) return;
    const shown = typeof value === "object" ? kindOf(value) : JSON.stringify(value);
    report(path, `must be ${allowed.map((one) => JSON.stringify(one)).join(" or ")}, not ${shown}`);
  };
}

/** Passes when one of the checks does; otherwise `says`. */
export function either(says: string, ...checks: readonly Check[]): Check {
  return (value, path, report) => {
    if (checks.some((check) => findings(value, check).length === 0)) return;
    report(path, says);
  };
}

/** Accepted because leaving it out changes nothing that a user could see here. */
export const ignored: Check = () => {};

/** Known, not there, and here is why. */
export function refused(why: string): Check {
  return (_value, path, report) => report(path, `is not supported by the local mesh: ${why}`);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `the ${typeof value} ${JSON.stringify(value)}`;
}

/** `value: 1` in an env entry is the commonest slip. */
function quoteHint(value: unknown): string {
  return typeof value === "number" || typeof value === "boolean" ? ` (put it in quotes: "${value}")` : "";
}
