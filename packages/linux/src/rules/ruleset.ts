/** An nftables ruleset as data, and its text for `nft -f`. */

export type TableFamily = "inet" | "ip" | "ip6";

export interface Table {
  readonly family: TableFamily;
  readonly name: string;
  readonly chains: readonly Chain[];
}

/** A base chain; its policy is always accept. */
export interface Chain {
  readonly name: string;
  readonly type: "filter" | "nat" | "route";
  readonly hook: "prerouting" | "input" | "output";
  /** A number, or nft's name for it with an offset: `dstnat`, `raw - 100`. */
  readonly priority: number | string;
  readonly rules: readonly Rule[];
}

export interface Rule {
  /** Matches and statement, in nft's words. */
  readonly text: string;
  /** What the rule is for; shown by `nft list` and in differences. At most 128 bytes. */
  readonly comment: string;
}

/** What identifies a table. */
export type TableName = Pick<Table, "family" | "name">;

/**
 * One transaction that removes `tables.remove` (whether they exist or not) and makes `tables.add` exactly as given.
 * A table that is replaced keeps its hooks registered throughout, so connection tracking has no gap.
 */
export function formatTransaction(tables: {
  readonly remove: readonly TableName[];
  readonly add: readonly Table[];
}): string {
  const lines: string[] = [];
  for (const { family, name } of tables.remove) {
    // Adding a table that is there already changes nothing; deleting one that is not there would fail.
    lines.push(`add table ${family} ${name}`, `delete table ${family} ${name}`);
  }
  for (const table of tables.add) lines.push(...formatTable(table));
  return `${lines.join("\n")}\n`;
}

function formatTable(table: Table): string[] {
  const lines = [`table ${table.family} ${table.name} {`];
  for (const chain of table.chains) {
    lines.push(
      `  chain ${chain.name} {`,
      `    type ${chain.type} hook ${chain.hook} priority ${chain.priority}; policy accept;`,
      ...chain.rules.map((rule) => `    ${rule.text} comment ${JSON.stringify(rule.comment)}`),
      "  }",
    );
  }
  lines.push("}");
  return lines;
}
