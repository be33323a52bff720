import assert from "node:assert/strict";
import { type CommandError, until } from "@tulle/lab";
import {
  ECHO_PORTS,
  type EchoAnswer,
  echo,
  echoAnswer,
  ENROL,
  Mesh,
  type PodObject,
  type Sample,
  type TestCluster,
} from "../src/index.ts";
import {
  type App,
  APPS,
  ELSEWHERE,
  LOCAL_ONLY_PORT,
  NAMESPACE,
  namespaceOf,
  OUT_OF_MESH,
  type PolicyCondition,
  reaches,
  type Scene,
} from "./scene.ts";

/** For a question that has to be answered: that takes seconds on a busy machine. */
const ANSWER_TIMEOUT = "15s";
/** For one that may find nobody: many ask so, of addresses that never answer. */
const REACH_TIMEOUT = "3s";
/** A deleted pod serves on until kube-proxy and every ztunnel have heard of it: seconds on a busy machine. */
const LINGER_SECONDS = 15;
/** Enough that one of two endpoints is left out by chance once in half a million times. */
const NEW_CONNECTIONS = 20;
/** Until every node knows all endpoints: a second or two on a quiet machine. */
const KNOWN_LIMIT_MS = 60_000;

/** The acceptance tests' applications on the cluster, and questions to them. */
export class Applications implements Scene {
  /** kube-proxy leads it on. */
  readonly namedEndpoint = `uncaptured.${NAMESPACE}.svc.cluster.local`;
  readonly cluster: TestCluster;
  readonly mesh: Mesh;
  readonly #pods = new Map<App, readonly PodObject[]>();

  constructor(cluster: TestCluster) {
    this.cluster = cluster;
    this.mesh = new Mesh(cluster);
  }

  async up(): Promise<void> {
    await this.mesh.install();
    for (const name of [NAMESPACE, ELSEWHERE]) {
      await this.cluster.apply(namespaceObject(name));
      await this.cluster.kubectl(["label", "namespace", name, ENROL]);
    }
    await this.cluster.apply(objects());
    await Promise.all(APPS.map((app) => this.cluster.rollout(`deploy/${app}`, namespaceOf(app))));
    for (const app of APPS) await this.look(app);
    await this.#known();
  }

  async down(): Promise<void> {
    // Nobody needs to wait for it.
    await this.cluster.kubectl(["delete", "namespace", NAMESPACE, ELSEWHERE, "--wait=false", "--ignore-not-found"]);
  }

  /** Reads the pods of an app anew, and waits until they are captured. */
  async look(app: App): Promise<readonly PodObject[]> {
    const found = await this.cluster.pods(`app=${app}`, namespaceOf(app));
    const pods: PodObject[] = [];
    for (const pod of found) {
      const reference = `${pod.metadata.namespace}/${pod.metadata.name}`;
      pods.push(app === "uncaptured" ? pod : await this.mesh.waitForCaptured(reference));
    }
    this.#pods.set(app, pods);
    return pods;
  }

  pods(app: App): readonly PodObject[] {
    return this.#pods.get(app) ?? assert.fail(`${app} is not up`);
  }

  pod(app: App): PodObject {
    return this.pods(app)[0] ?? assert.fail(`${app} has no pod`);
  }

  /** `namespace/name` of the app's first pod. */
  reference(app: App): string {
    const { metadata } = this.pod(app);
    return `${metadata.namespace}/${metadata.name}`;
  }

  async ask(app: App, url: string): Promise<EchoAnswer> {
    return echoAnswer(await this.get(app, url));
  }

  async get(app: App, ...urls: readonly string[]): Promise<string> {
    return this.#get(app, urls, ANSWER_TIMEOUT);
  }

  async send(app: App, address: string, payload: string): Promise<string> {
    return this.#send(app, address, payload, ANSWER_TIMEOUT);
  }

  reaches(app: App, address: string): Promise<boolean> {
    const questions = {
      get: (from: App, ...urls: readonly string[]) => this.#get(from, urls, REACH_TIMEOUT),
      send: (from: App, to: string, payload: string) => this.#send(from, to, payload, REACH_TIMEOUT),
    };
    return reaches(questions, app, address);
  }

  async lookUp(app: App, name: string): Promise<string[]> {
    return (await this.cluster.execDirectly(this.pod(app), ["/labbox", "dns", name])).trim().split("\n");
  }

  apply(...objects: readonly object[]): Promise<void> {
    return this.cluster.apply(objects);
  }

  delete(...objects: readonly object[]): Promise<void> {
    return this.cluster.delete(objects);
  }

  async clusterIPs(service: string): Promise<readonly string[]> {
    const path = `/api/v1/namespaces/${NAMESPACE}/services/${service}`;
    return (await this.cluster.get<{ spec: { clusterIPs: string[] } }>(path))?.spec.clusterIPs ?? [];
  }

  async policyConditions(name: string): Promise<readonly PolicyCondition[]> {
    const path = `/apis/security.istio.io/v1/namespaces/${NAMESPACE}/authorizationpolicies/${name}`;
    const policy = await this.cluster.get<{ status?: { conditions?: readonly PolicyCondition[] } }>(path);
    return policy?.status?.conditions ?? [];
  }

  troubles(): Promise<string> {
    return this.mesh.tulle(["status"]).then(
      (text) => assert.fail(`no trouble: ${text}`),
      (error: CommandError) => error.stdout,
    );
  }

  async ztunnelMetrics(prefix: string): Promise<Sample[]> {
    return (await Promise.all([1, 2].map((node) => this.mesh.ztunnelMetrics(node, prefix)))).flat();
  }

  /** Waits until those whom the tests ask once are known to those who ask: a pod is Ready before all nodes have heard of it. */
  async #known(): Promise<void> {
    for (const from of APPS) {
      for (const to of ["captured", "client", "uncaptured", "local"] as const) {
        // Through the service to oneself only `client` is asked to go.
        if (from === to && from !== "client") continue;
        const url = `http://${to}.${NAMESPACE}/`;
        await this.cluster.waitForEndpoint({
          from: this.reference(from),
          url,
          answer: /^200 /,
          timeoutMs: KNOWN_LIMIT_MS,
        });
      }
    }
    const urls = Array<string>(NEW_CONNECTIONS).fill(`http://captured.${NAMESPACE}/`);
    for (const from of ["client", "uncaptured", "visitor"] as const) {
      await until(
        async () => {
          const said = await this.get(from, ...urls);
          const names = new Set([...said.matchAll(/"pod":"([^"]+)"/g)].map(([, name]) => name));
          return names.size === this.pods("captured").length;
        },
        { what: `${from} to be led to every pod of captured`, timeoutMs: KNOWN_LIMIT_MS, intervalMs: 200 },
      );
    }
  }

  #get(app: App, urls: readonly string[], timeout: string): Promise<string> {
    return this.cluster.execDirectly(this.pod(app), ["/labbox", "get", `-timeout=${timeout}`, ...urls]);
  }

  async #send(app: App, address: string, payload: string, timeout: string): Promise<string> {
    const command = ["/labbox", "marker", `-timeout=${timeout}`, `tcp://${address}`, payload];
    return (await this.cluster.execDirectly(this.pod(app), command)).trim();
  }
}

function namespaceObject(name: string): object {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name } };
}

function objects(): object[] {
  const namespace = NAMESPACE;
  return [
    ...echo({ name: "captured", namespace, replicas: 2, lingerSeconds: LINGER_SECONDS }),
    headless("captured"),
    ...echo({ name: "client", namespace, node: 1 }),
    ...echo({ name: "stranger", namespace, node: 2 }),
    ...echo({ name: "uncaptured", namespace, labels: OUT_OF_MESH }),
    ...echo({ name: "local", namespace, args: ["serve", `-tcp=127.0.0.1:${LOCAL_ONLY_PORT}`] }),
    ...echo({ name: "visitor", namespace: ELSEWHERE }),
  ];
}

/** Its name resolves to the pods themselves. */
function headless(app: App): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: `${app}-headless`, namespace: NAMESPACE },
    spec: {
      clusterIP: "None",
      ipFamilyPolicy: "PreferDualStack",
      selector: { app },
      ports: [{ name: "http", port: ECHO_PORTS.http }],
    },
  };
}
