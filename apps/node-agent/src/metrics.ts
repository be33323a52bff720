/** Counters and gauges of the agent as Prometheus text (names: spec control-plane §7.10; ours begin with tulle_). */

export type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly values: Map<string, number>;
  readonly read: (() => number) | undefined;
}

/** Label values are words of ours, never text from outside, so that families stay small. */
export class Counter {
  readonly #values: Map<string, number>;

  constructor(values: Map<string, number>) {
    this.#values = values;
  }

  add(labels: Labels = {}, by = 1): void {
    const key = labelText(labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + by);
  }
}

export class AgentMetrics {
  readonly #families: Family[] = [];
  readonly reconciled = this.counter("nodeagent_reconcile_events_total", "Pods that were looked at, by why.");
  readonly pluginRequests = this.counter("istio_cni_plugin_requests_total", "Requests of the CNI plugin, by answer.");
  readonly faults = this.counter(
    "tulle_capture_faults_total",
    "Times that a pod was found not to be captured, by reason.",
  );
  readonly repairs = this.counter("tulle_capture_repairs_total", "Times that capture was restored.");
  readonly older = this.counter(
    "tulle_connections_before_enrolment_total",
    "Connections that were older than enrolment.",
  );
  readonly cut = this.counter(
    "tulle_connections_cut_total",
    "Plaintext connections that were reset because mutual TLS is required.",
  );
  readonly leaveTimeouts = this.counter(
    "tulle_leave_timeouts_total",
    "Pods that left without the control plane's word.",
  );
  readonly refused = this.counter("tulle_peers_refused_total", "Processes that were refused, by socket.");

  counter(name: string, help: string): Counter {
    const values = new Map<string, number>();
    this.#families.push({ name, help, type: "counter", values, read: undefined });
    return new Counter(values);
  }

  /** Read at each scrape. */
  gauge(name: string, help: string, read: () => number): void {
    this.#families.push({ name, help, type: "gauge", values: new Map(), read });
  }

  text(): string {
    return this.#families
      .map(({ name, help, type, values, read }) => {
        const samples = read === undefined ? [...values] : [["", read()] as const];
        const lines = samples.map(([labels, value]) => `${name}${labels} ${value}\n`);
        return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
      })
      .join("");
  }
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}
