import type { Figure, Sample } from "./measures.ts";

/** What one contender reached, or why it did not run. */
export interface Result {
  readonly name: string;
  readonly title: string;
  readonly samples: readonly Sample[];
  readonly failure: string | undefined;
}

/** A goal for a figure of Tulle: at least (or at most, where less is better) `factor` times the other's. */
export interface Aim {
  readonly figure: string;
  readonly against: "haproxy" | "direct" | "itself" | "absolute";
  /** With `itself`: the figure it is compared with. */
  readonly other?: string;
  readonly factor: number;
}

const SUBJECT = "tulle";
const NONE = "–";

/** The middle of the values; the mean of the two in the middle of an even number. Undefined of none. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted[middle - 1];
  return sorted.length % 2 === 0 && upper !== undefined && lower !== undefined ? (upper + lower) / 2 : upper;
}

/** Markdown: a row per figure that anyone has, a column per contender, then Tulle's ratios. */
export function formatReport(results: readonly Result[], figures: readonly Figure[], aims: readonly Aim[]): string {
  const value = (name: string, key: string) => medianOf(results, name, key);
  const ratios = ["haproxy", "direct"].filter((name) => results.some((result) => result.name === name));
  const subject = results.some(({ name }) => name === SUBJECT);
  const head = ["", ...results.map(({ title }) => title)];
  if (subject) head.push(...ratios.map((name) => `Tulle ÷ ${name}`), "aim");

  const measured = figures.filter(({ key }) => results.some(({ name }) => value(name, key) !== undefined));
  const rows = measured.map((figure) => {
    const cells = [
      `${figure.title}, ${figure.unit}`,
      ...results.map(({ name }) => formatNumber(value(name, figure.key))),
    ];
    if (subject) {
      for (const name of ratios) cells.push(formatRatio(value(SUBJECT, figure.key), value(name, figure.key)));
      cells.push(aimCell(figure, aims, value));
    }
    return cells;
  });
  const failures = results
    .filter(({ failure }) => failure !== undefined)
    .map(({ title, failure }) => `- ${title}: ${failure}`);
  const table = [head, head.map((_, index) => (index === 0 ? "---" : "--:")), ...rows];
  return [
    ...table.map((cells) => `| ${cells.join(" | ")} |`),
    ...(failures.length > 0 ? ["", "Missing:", ...failures] : []),
  ].join("\n");
}

/** Three significant digits, thousands separated. */
export function formatNumber(value: number | undefined): string {
  if (value === undefined) return NONE;
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

function medianOf(results: readonly Result[], name: string, key: string): number | undefined {
  const samples = results.find((result) => result.name === name)?.samples ?? [];
  return median(samples.flatMap((sample) => sample[key] ?? []));
}

function formatRatio(value: number | undefined, other: number | undefined): string {
  return value === undefined || other === undefined || other === 0 ? NONE : `${(value / other).toFixed(2)} ×`;
}

/** `≥ 1.7 × haproxy ✓`. */
function aimCell(
  figure: Figure,
  aims: readonly Aim[],
  value: (name: string, key: string) => number | undefined,
): string {
  const aim = aims.find((one) => one.figure === figure.key);
  if (aim === undefined) return "";
  const { against, factor, other = figure.key } = aim;
  const base = against === "absolute" ? 1 : value(against === "itself" ? SUBJECT : against, other);
  const reached = value(SUBJECT, figure.key);
  const sign = figure.lower ? "≤" : "≥";
  const text =
    against === "absolute"
      ? `${sign} ${factor} ${figure.unit}`
      : `${sign} ${factor} × ${against === "itself" ? other : against}`;
  if (base === undefined || reached === undefined) return text;
  return `${text} ${(figure.lower ? reached <= factor * base : reached >= factor * base) ? "✓" : "✗"}`;
}
