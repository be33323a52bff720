import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CAPTURED_CONDITION, DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION } from "@tulle/base";
import { run, until } from "@tulle/lab";
import type { PodObject, PodReference } from "./containers.ts";
import type { TestCluster } from "./test-cluster.ts";

export const MESH_NAMESPACE = "istio-system";
/** What enrols a pod, or all pods of a namespace. */
export const ENROL = `${DATAPLANE_MODE_LABEL}=ambient`;

export interface TulleOptions {
  readonly timeoutMs?: number;
  readonly input?: string;
}

/** An access log line of ztunnel: `direction`, `src.identity`, …; values without their quotes. */
export type AccessLogLine = Readonly<Record<string, string>>;

/** One sample of a metrics page. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const ROOT = join(import.meta.dirname, "..", "..", "..");
const IMAGE_FOLDER = join(ROOT, ".cache", "images", "cluster");
const CLI = join(ROOT, "apps", "cli", "src", "main.js");
/** A cold build strips Node and packs some hundred files. */
const BUILD_LIMIT_MS = 240_000;
const INSTALL_LIMIT_MS = 180_000;
const TULLE_LIMIT_MS = 60_000;
/** From the label to the annotation: less than a second on a quiet machine. */
const CAPTURE_LIMIT_MS = 30_000;
/** From a pod that was deleted to its successor. */
const RUNNING_LIMIT_MS = 60_000;
const POLL_MS = 100;

const installations = new WeakMap<TestCluster, Promise<void>>();

/**
 * The mesh on a test's cluster. It is installed once for all suites, by the command line as a user does it: every suite
 * that needs it calls `install()` in its `before`.
 */
export class Mesh {
  readonly #cluster: TestCluster;

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
  }

  /**
   * Builds the images (only what changed), loads them, runs `tulle install` and waits. Where a mesh is there already, on a
   * cluster that is attached to, it is brought to the present code.
   */
  install(): Promise<void> {
    const running = installations.get(this.#cluster);
    if (running !== undefined) return running;
    const started = this.#install();
    installations.set(this.#cluster, started);
    return started;
  }

  /** Runs `tulle` against the cluster. Returns its standard output, throws CommandError. */
  tulle(args: readonly string[], options: TulleOptions = {}): Promise<string> {
    return run(process.execPath, [CLI, ...args], {
      timeoutMs: TULLE_LIMIT_MS,
      ...options,
      environment: { KUBECONFIG: this.#cluster.kubeconfig, NODE_NO_WARNINGS: "1" },
    });
  }

  /** The ztunnel of a node (1 is n1). */
  ztunnel(node: number): Promise<PodObject> {
    return this.#only("app=ztunnel", node);
  }

  nodeAgent(node: number): Promise<PodObject> {
    return this.#only("k8s-app=istio-cni-node", node);
  }

  controlPlane(): Promise<PodObject> {
    return this.#only("app=istiod");
  }

  /** What a node's ztunnel knows: its `/config_dump`. */
  async configDump<T = Record<string, unknown>>(node: number): Promise<T> {
    return JSON.parse(await this.#askZtunnel(node, "http://localhost:15000/config_dump")) as T;
  }

  /** The samples of a node's ztunnel, of the families whose names begin so. */
  async ztunnelMetrics(node: number, prefix = ""): Promise<Sample[]> {
    return parseMetrics(await this.#askZtunnel(node, "http://localhost:15020/metrics")).filter(({ name }) =>
      name.startsWith(prefix),
    );
  }

  /** Access log lines of a node's ztunnel since a time (milliseconds since the epoch). */
  async accessLog(node: number, since: number): Promise<AccessLogLine[]> {
    const { metadata } = await this.ztunnel(node);
    const from = new Date(since).toISOString();
    const text = await this.#cluster.kubectl(["logs", metadata.name, "-n", MESH_NAMESPACE, `--since-time=${from}`]);
    return text.split("\n").flatMap((line) => parseAccessLine(line, since));
  }

  /** Waits until the pod is captured, by the annotation, and its agent has said so in the condition. */
  waitForCaptured(pod: PodReference, captured = true): Promise<PodObject> {
    return until(
      async () => {
        const object = await this.#cluster.pod(pod);
        return isCaptured(object) === captured && object;
      },
      { what: `${pod} to be ${captured ? "" : "no more "}captured`, timeoutMs: CAPTURE_LIMIT_MS, intervalMs: POLL_MS },
    );
  }

  async #install(): Promise<void> {
    const loaded = join(this.#cluster.cluster.settings.folder, "mesh-images");
    const built = await run(
      process.execPath,
      [join(ROOT, "images", "build.ts"), "--together", "--output", IMAGE_FOLDER],
      { timeoutMs: BUILD_LIMIT_MS, environment: { NODE_NO_WARNINGS: "1" } },
    );
    const there = read(loaded);
    if (there !== built) {
      await this.#cluster.load(join(IMAGE_FOLDER, "tulle.tar"));
      writeFileSync(loaded, built);
    }
    const pods = await this.#cluster.pods("app=istiod", MESH_NAMESPACE);
    await this.tulle(["install", "-y", "--set", "profile=ambient"], { timeoutMs: INSTALL_LIMIT_MS });
    if (pods.length === 0 || there === built) return;
    // The tag is the same: nobody else sees that the images are others.
    for (const part of ["deploy/istiod", "ds/istio-cni-node", "ds/ztunnel"]) {
      await this.#cluster.kubectl(["rollout", "restart", part, "-n", MESH_NAMESPACE]);
      await this.#cluster.rollout(part, MESH_NAMESPACE);
    }
  }

  /** One that was killed before has a successor that may still be starting: it is waited for. */
  #only(selector: string, node?: number): Promise<PodObject> {
    const isMeant = ({ metadata, spec, status }: PodObject) =>
      (node === undefined || spec.nodeName === `n${node}`) &&
      metadata.deletionTimestamp === undefined &&
      status.containerStatuses?.[0]?.ready === true;
    return until(async () => (await this.#cluster.pods(selector, MESH_NAMESPACE)).find(isMeant), {
      what: `a pod ${selector} to run${node === undefined ? "" : ` on n${node}`}`,
      timeoutMs: RUNNING_LIMIT_MS,
      intervalMs: POLL_MS,
    });
  }

  async #askZtunnel(node: number, url: string): Promise<string> {
    const { metadata } = await this.ztunnel(node);
    return this.#cluster.exec(`${MESH_NAMESPACE}/${metadata.name}`, ["curl", "-sSf", "-m", "10", url], {
      container: "istio-proxy",
    });
  }
}

/** As the node agent says it in annotation and condition. */
export function isCaptured({ metadata, status }: PodObject): boolean {
  const condition = status.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
  return metadata.annotations?.[REDIRECTION_ANNOTATION] === "enabled" && condition?.status === "True";
}

/** Prometheus' text format, without HELP, TYPE and exemplars. */
export function parseMetrics(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const [, name = "", inner = "", value = ""] = /^(\w+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    if (name === "") return [];
    const labels = [...inner.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = "", text = ""]) => [key, text]);
    return [{ name, labels: Object.fromEntries(labels) as Record<string, string>, value: Number(value) }];
  });
}

/** `time<TAB>level<TAB>access<TAB>message<TAB>key=value key="value" …` */
function parseAccessLine(line: string, since: number): AccessLogLine[] {
  const [time = "", level = "", scope, message = "", rest = ""] = line.split("\t");
  // kubectl counts in whole seconds.
  if (scope !== "access" || Date.parse(time) < since) return [];
  const fields = [...rest.matchAll(/([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))/g)];
  const values = fields.map(([, key = "", quoted, bare = ""]) => [key, quoted ?? bare]);
  return [{ time, level, message, ...Object.fromEntries(values) } as AccessLogLine];
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // Nothing was loaded yet.
    return undefined;
  }
}
