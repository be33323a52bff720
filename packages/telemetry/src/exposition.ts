import { type Family, SCHEMAS, type Schema } from "./metric-families.ts";
import { isShown, type MergedSeries, type SeriesReader } from "./series-reader.ts";

/** OpenMetrics text, as ztunnel's metrics port prints it. https://github.com/prometheus/OpenMetrics */

/** A family that is not kept in a table but read when it is asked for. */
export interface ReadFamily extends Omit<Family, "cell" | "buckets"> {
  readonly samples: readonly ReadSample[];
}

export interface ReadSample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What a client is sent at a time; between two pieces the main thread does other things. */
const CHUNK_LENGTH = 32_768;

/** The whole text in pieces: first `read`, then the tables' families. Families without a sample are left out. */
export function* exposition(reader: SeriesReader, read: readonly ReadFamily[]): Generator<string> {
  let text = "";
  for (const family of read) {
    if (family.samples.length === 0) continue;
    text += head(family);
    for (const { labels = {}, value } of family.samples) {
      const pairs = Object.entries(labels).map(([name, text]) => `${name}="${text}"`);
      text += sample(family.name + suffix(family), pairs.join(), value);
    }
  }
  reader.refresh();
  for (const schema of SCHEMAS) {
    for (const family of schema.families) {
      let shown = false;
      for (const series of reader.series(schema)) {
        const lines = samples(schema, family, series);
        if (lines === "") continue;
        if (!shown) text += head(family);
        shown = true;
        text += lines;
        if (text.length < CHUNK_LENGTH) continue;
        yield text;
        text = "";
      }
    }
  }
  yield `${text}# EOF\n`;
}

function head(family: Omit<Family, "cell">): string {
  const { name, help, type, unit } = family;
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${unit === undefined ? "" : `# UNIT ${name} ${unit}\n`}`;
}

function suffix(family: Pick<Family, "type">): string {
  return family.type === "counter" ? "_total" : "";
}

function samples(schema: Schema, family: Family, series: MergedSeries): string {
  if (family.type === "histogram") return histogram(family, series);
  const value = series.value(family.cell);
  if (!isShown(schema, family, series, value)) return "";
  return sample(family.name + suffix(family), series.labels(), value);
}

function histogram(family: Family, series: MergedSeries): string {
  const bounds = family.buckets ?? [];
  const counts = [...bounds, Number.POSITIVE_INFINITY].map((_, i) => series.value(family.cell + i));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return "";
  const labels = series.labels();
  const { name } = family;
  let text = sample(`${name}_sum`, labels, series.value(family.cell + bounds.length + 1));
  text += sample(`${name}_count`, labels, total);
  let below = 0;
  counts.forEach((count, i) => {
    below += count;
    const bound = bounds[i];
    const le = `le="${bound === undefined ? "+Inf" : decimal(bound)}"`;
    text += sample(`${name}_bucket`, labels === "" ? le : `${le},${labels}`, below);
  });
  return text;
}

function sample(name: string, labels: string, value: number): string {
  return labels === "" ? `${name} ${value}\n` : `${name}{${labels}} ${value}\n`;
}

/** Bounds are floating point numbers and are written as such: 1 is `1.0`. */
function decimal(value: number): string {
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}
