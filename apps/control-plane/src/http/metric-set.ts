/** Counters, gauges and histograms as Prometheus reads them (text format 0.0.4). */

export type LabelValues = Readonly<Record<string, string>>;

export interface Counter {
  add(labels?: LabelValues, by?: number): void;
}

export interface Histogram {
  observe(value: number, labels?: LabelValues): void;
}

export interface GaugeSample {
  readonly labels?: LabelValues;
  readonly value: number;
}

/** Label values come from our own code or from few objects; more than that is a mistake and is left out. */
const MAX_SERIES = 1_000;

interface Family {
  readonly head: string;
  samples(): string;
}

export class MetricSet {
  readonly #families: Family[] = [];

  /** Only grows. `labels`: series that are there from the start, at 0. */
  counter(name: string, help: string, labels: readonly LabelValues[] = []): Counter {
    const values = new Map<string, number>(labels.map((one) => [labelText(one), 0]));
    const samples = () => [...values].map(([text, value]) => line(name, text, value)).join("");
    this.#families.push({ head: head(name, help, "counter"), samples });
    return {
      add: (one = {}, by = 1) => {
        const text = labelText(one);
        const known = values.get(text);
        if (known !== undefined || values.size < MAX_SERIES) values.set(text, (known ?? 0) + by);
      },
    };
  }

  /** Read when somebody asks. */
  gauge(name: string, help: string, read: () => number | readonly GaugeSample[]): void {
    const samples = () => {
      const value = read();
      const all = typeof value === "number" ? [{ value }] : value;
      return all
        .slice(0, MAX_SERIES)
        .map((one) => line(name, labelText(one.labels ?? {}), one.value))
        .join("");
    };
    this.#families.push({ head: head(name, help, "gauge"), samples });
  }

  /** `buckets`: upper bounds, ascending, without +Inf. */
  histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    const series = new Map<string, { readonly counts: number[]; sum: number; count: number }>();
    const samples = () =>
      [...series]
        .map(([text, { counts, sum, count }]) => {
          const comma = text === "" ? "" : ",";
          const bounds = buckets.map((bound, i) =>
            line(`${name}_bucket`, `${text}${comma}le="${bound}"`, counts[i] ?? 0),
          );
          const last = line(`${name}_bucket`, `${text}${comma}le="+Inf"`, count);
          return `${bounds.join("")}${last}${line(`${name}_sum`, text, sum)}${line(`${name}_count`, text, count)}`;
        })
        .join("");
    this.#families.push({ head: head(name, help, "histogram"), samples });
    return {
      observe: (value, labels = {}) => {
        const text = labelText(labels);
        let one = series.get(text);
        if (one === undefined) {
          if (series.size >= MAX_SERIES) return;
          one = { counts: buckets.map(() => 0), sum: 0, count: 0 };
          series.set(text, one);
        }
        one.sum += value;
        one.count++;
        for (const [i, bound] of buckets.entries()) if (value <= bound) one.counts[i] = (one.counts[i] ?? 0) + 1;
      },
    };
  }

  /** Families without a sample are left out. */
  text(): string {
    return this.#families
      .map((family) => {
        const text = family.samples();
        return text === "" ? "" : family.head + text;
      })
      .join("");
  }
}

function head(name: string, help: string, type: string): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
}

function line(name: string, labels: string, value: number): string {
  return labels === "" ? `${name} ${value}\n` : `${name}{${labels}} ${value}\n`;
}

function labelText(labels: LabelValues): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${escape(value)}"`)
    .join(",");
}

function escape(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
