/** Columns of text, each as wide as its widest cell. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** `gap`: spaces between columns. A line has no spaces at its end. */
export function renderTable({ columns, rows }: Table, gap = 1): string {
  const lines = [columns, ...rows];
  const widths = columns.map((_, index) =>
    lines.reduce((width, line) => Math.max(width, (line[index] ?? "").length), 0),
  );
  const last = columns.length - 1;
  return lines
    .map((line) => {
      const cells = columns.map((_, index) => {
        const cell = printable(line[index] ?? "");
        return index === last ? cell : cell.padEnd((widths[index] ?? 0) + gap);
      });
      return `${cells.join("").trimEnd()}\n`;
    })
    .join("");
}

/** The same table with another column in front. */
export function withColumn(name: string, cell: string, table: Table): Table {
  return { columns: [name, ...table.columns], rows: table.rows.map((row) => [cell, ...row]) };
}

/** Names come from the cluster: nothing in them may move the cursor of a terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}
