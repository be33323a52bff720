import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "@tulle/lab";
import type { PodObject } from "./containers.ts";
import type { TestCluster } from "./test-cluster.ts";

/** One series of an instant query. */
export interface QueryResult {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly { readonly metric: Record<string, string>; readonly value: readonly [number, string] }[];
  };
}

const NAME = "prometheus";
const PORT = 9090;
const START_LIMIT_MS = 60_000;

/**
 * A stock Prometheus in the cluster's network that chooses pods by the annotations that everybody uses. Debian builds it
 * without discovery by Kubernetes: what that would find (every pod, with its labels and annotations) is given to it in a file.
 */
export class Prometheus implements AsyncDisposable {
  readonly #cluster: TestCluster;
  readonly #folder: string;

  private constructor(cluster: TestCluster, folder: string) {
    this.#cluster = cluster;
    this.#folder = folder;
  }

  /** Resolves when it is ready. */
  static async start(cluster: TestCluster): Promise<Prometheus> {
    const { space, settings } = cluster.cluster;
    const folder = join(settings.folder, NAME);
    const prometheus = new Prometheus(cluster, folder);
    await prometheus[Symbol.asyncDispose]();
    mkdirSync(folder, { mode: 0o700 });
    writeFileSync(join(folder, "prometheus.yml"), configuration(join(folder, "pods.json")));
    await prometheus.discover();
    try {
      await space.start(NAME, [
        "prometheus",
        `--config.file=${folder}/prometheus.yml`,
        `--storage.tsdb.path=${folder}/data`,
        `--web.listen-address=127.0.0.1:${PORT}`,
      ]);
      const ready = () => {
        if (!space.running(NAME)) throw new Error(`it ended: see ${settings.folder}/log/${NAME}.log`);
        return prometheus.#get("/-/ready");
      };
      await until(ready, { what: "Prometheus to be ready", timeoutMs: START_LIMIT_MS, intervalMs: 200 });
      return prometheus;
    } catch (error) {
      await prometheus[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Tells it which pods there are now. */
  async discover(): Promise<void> {
    const list = await this.#cluster.get<{ items: PodObject[] }>("/api/v1/pods");
    const targets = (list?.items ?? []).flatMap((pod) => target(pod) ?? []);
    // Renamed into place: it must not read half of it.
    const file = join(this.#folder, "pods.json");
    writeFileSync(`${file}.new`, JSON.stringify(targets));
    renameSync(`${file}.new`, file);
  }

  /** An instant query in PromQL. Throws with Prometheus' own words when it is none. */
  async query(query: string): Promise<QueryResult[]> {
    const answer = JSON.parse(await this.#get(`/api/v1/query?query=${encodeURIComponent(query)}`)) as Answer;
    if (answer.status !== "success") throw new Error(`${query}: ${answer.error}`);
    return (answer.data?.result ?? []).map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster.cluster.space.stop(NAME);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #get(path: string): Promise<string> {
    return this.#cluster.cluster.space.run(["curl", "-sS", "-m", "5", `http://127.0.0.1:${PORT}${path}`]);
  }
}

/** A pod as Prometheus' own discovery describes it. */
function target({ metadata, spec, status }: PodObject): object | undefined {
  if (status.podIP === undefined) return undefined;
  const named = (prefix: string, entries: Readonly<Record<string, string>> = {}) =>
    Object.entries(entries).map(([key, value]) => [
      `__meta_kubernetes_pod_${prefix}_${key.replaceAll(/[^a-zA-Z0-9_]/g, "_")}`,
      value,
    ]);
  const labels = {
    __meta_kubernetes_namespace: metadata.namespace,
    __meta_kubernetes_pod_name: metadata.name,
    __meta_kubernetes_pod_node_name: spec.nodeName ?? "",
    ...Object.fromEntries([...named("annotation", metadata.annotations), ...named("label", metadata.labels)]),
  };
  return { targets: [status.podIP], labels };
}

/** Pods by their annotations, as the charts of Prometheus have it. */
function configuration(pods: string): string {
  return `global:
  scrape_interval: 2s
  scrape_timeout: 2s
scrape_configs:
- job_name: kubernetes-pods
  file_sd_configs:
  - files: [${pods}]
    refresh_interval: 1s
  relabel_configs:
  - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape]
    action: keep
    regex: "true"
  - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path]
    action: replace
    target_label: __metrics_path__
    regex: (.+)
  - source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port]
    action: replace
    regex: ([^:]+)(?::\\d+)?;(\\d+)
    replacement: $1:$2
    target_label: __address__
  - action: labelmap
    regex: __meta_kubernetes_pod_label_(app|k8s_app)
  - source_labels: [__meta_kubernetes_namespace]
    target_label: namespace
  - source_labels: [__meta_kubernetes_pod_name]
    target_label: pod
  - source_labels: [__meta_kubernetes_pod_node_name]
    target_label: node
`;
}
