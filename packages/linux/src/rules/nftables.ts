import { SystemError } from "../errno.ts";
import { CommandError, run } from "./command.ts";
import { formatTransaction, type Table, type TableName } from "./ruleset.ts";

/** Every chain and rule of a ruleset in order, in a form in which two equal rulesets are equal texts. */
export type CanonicalRuleset = readonly CanonicalItem[];

export interface CanonicalItem {
  /** `inet tulle-pod`. */
  readonly table: string;
  /** For people: `chain nat-output, "outbound"`. */
  readonly label: string;
  /** The item without handles and counter values, as JSON. */
  readonly text: string;
}

/** The elements of `nft -j list ruleset` (libnftables-json(5)) that matter here. */
interface JsonObject {
  readonly [key: string]: unknown;
}

/** What differs from one listing to the next although the rules are the same. */
const VOLATILE_KEYS = new Set(["handle", "index", "packets", "bytes"]);

/** Applies a transaction inside a namespace: all of it or nothing. Throws CommandError with nft's complaint. */
export async function applyTables(
  namespace: string,
  tables: { readonly remove: readonly TableName[]; readonly add: readonly Table[] },
): Promise<void> {
  await run("nft", ["-f", "-"], { namespace, input: formatTransaction(tables) });
}

/** What is in force inside a namespace. */
export async function listRuleset(namespace: string): Promise<CanonicalRuleset> {
  return canonicalRuleset(await run("nft", ["-j", "list", "ruleset"], { namespace }));
}

export function tableKey({ family, name }: TableName): string {
  return `${family} ${name}`;
}

/** In what `actual` differs from `desired`, one sentence each; tables that `desired` does not name are left out unless in `owned`. */
export function compareRulesets(
  desired: CanonicalRuleset,
  actual: CanonicalRuleset,
  owned: ReadonlySet<string>,
): string[] {
  const differences: string[] = [];
  const relevant = actual.filter((item) => owned.has(item.table));
  const surplus = [...relevant];
  for (const item of desired) {
    const at = surplus.findIndex((other) => same(other, item));
    if (at >= 0) surplus.splice(at, 1);
    else differences.push(`missing in table ${item.table}: ${item.label}`);
  }
  for (const item of surplus) differences.push(`unexpected in table ${item.table}: ${item.label}`);
  if (differences.length > 0) return differences;
  // The same items: only their order can differ.
  const moved = desired.find((item, index) => !same(item, relevant[index] as CanonicalItem));
  return moved === undefined ? [] : [`out of order in table ${moved.table}: ${moved.label}`];
}

/** Exported for tests: the listing as `nft -j list ruleset` prints it. */
export function canonicalRuleset(listing: string): CanonicalRuleset {
  const { nftables } = JSON.parse(listing) as { readonly nftables: readonly Record<string, JsonObject>[] };
  const items: CanonicalItem[] = [];
  for (const element of nftables) {
    const [kind = "", body = {}] = Object.entries(element)[0] ?? [];
    if (kind === "metainfo") continue;
    // A chain or rule names its table; a table is its own.
    const table = `${String(body.family)} ${String(kind === "table" ? body.name : body.table)}`;
    items.push({ table, label: labelOf(kind, body), text: `${kind} ${JSON.stringify(stable(body))}` });
  }
  return items;
}

function labelOf(kind: string, body: JsonObject): string {
  if (kind !== "rule") return `${kind} ${String(body.name)}`;
  const what = body.comment === undefined ? JSON.stringify(stable(body.expr)) : JSON.stringify(body.comment);
  return `chain ${String(body.chain)}, rule ${what}`;
}

/** Sorted keys, nothing volatile. */
function stable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(stable);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([key]) => !VOLATILE_KEYS.has(key));
  return Object.fromEntries(
    entries.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, stable(inner)]),
  );
}

function same(a: CanonicalItem, b: CanonicalItem): boolean {
  return a.table === b.table && a.text === b.text;
}

/** Whether an error is nft's or the kernel's refusal, rather than a missing tool or a time-out. */
export function isRefusal(error: unknown): error is CommandError | SystemError {
  return error instanceof SystemError || (error instanceof CommandError && error.exitCode !== undefined);
}
