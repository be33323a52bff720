import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { type CommandError, connectFrom, until } from "@tulle/lab";
import { AUTHORIZATION_POLICY, type KubeObject, type ObjectRef, POD, type ResourceKind, SERVICE } from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
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
} from "../cluster/acceptance/scene.ts";
import {
  ECHO_PORTS,
  type EchoAnswer,
  echoAnswer,
  isCaptured,
  parseMetrics,
  type PodObject,
  type Sample,
} from "../cluster/src/index.ts";
import type { Order } from "./fixtures/echo/client.ts";
import type { LoadOrder, LoadSummary } from "./fixtures/echo/load.ts";
import { LocalMesh, meshName, Workspace } from "./local-mesh.ts";

const FIXTURE = fileURLToPath(new URL("fixtures/echo", import.meta.url));
/** On each pod's loopback address: its client takes orders there. */
const ORDERS_PORT = 9100;
const METRICS_PORT = 15020;
/** Longer than any order takes: a client's own time-outs come first. */
const ORDER_TIMEOUT_MS = 60_000;
const POD_TIMEOUT_MS = 30_000;
const AMBIENT = { "istio.io/dataplane-mode": "ambient" } as const;
/** Longer than the programs serve on. */
const GRACE_SECONDS = 12;

/** The acceptance tests' applications in a mesh of this machine. Each object is a file of the user's directory. */
export class LocalScene implements Scene, AsyncDisposable {
  /** Nothing translates a cluster IP past ztunnel, whose connections are not tracked. */
  readonly namedEndpoint = `uncaptured-headless.${NAMESPACE}.svc.cluster.local`;
  readonly mesh: LocalMesh;
  readonly #workspace: Workspace;
  /** As `tulle get` opens it, but once: tests ask often. */
  readonly #store: DirectoryStore;
  readonly #pods = new Map<App, readonly PodObject[]>();

  private constructor(mesh: LocalMesh, workspace: Workspace, store: DirectoryStore) {
    this.mesh = mesh;
    this.#workspace = workspace;
    this.#store = store;
  }

  static async start(): Promise<LocalScene> {
    const workspace = Workspace.copyOf(FIXTURE);
    for (const object of objects()) workspace.write(fileOf(object), JSON.stringify(object));
    let mesh: LocalMesh | undefined;
    try {
      mesh = await LocalMesh.start(workspace.path, { name: meshName("a") });
      const store = await DirectoryStore.open({ directory: undefined, state: mesh.state, component: "test" });
      const scene = new LocalScene(mesh, workspace, store);
      for (const app of APPS) await scene.look(app);
      return scene;
    } catch (error) {
      await mesh?.stop();
      workspace[Symbol.dispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
    await this.mesh.stop();
    this.#workspace[Symbol.dispose]();
  }

  /** Reads the pods of an app anew, and waits until those that should be are captured. */
  async look(app: App): Promise<readonly PodObject[]> {
    const pods = await until(
      async () => {
        const found = await this.podsNow(app);
        return found.length > 0 && found.every((pod) => isCaptured(pod) === (app !== "uncaptured")) && found;
      },
      { what: `the pods of ${app}`, timeoutMs: POD_TIMEOUT_MS },
    );
    this.#pods.set(app, pods);
    return pods;
  }

  /** By name; those that are about to go, too. */
  async podsNow(app: App): Promise<PodObject[]> {
    return ((await this.#store.list(POD)) as readonly unknown[] as PodObject[])
      .filter(({ metadata }) => metadata.namespace === namespaceOf(app) && metadata.labels?.app === app)
      .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  pods(app: App): readonly PodObject[] {
    return this.#pods.get(app) ?? assert.fail(`${app} is not up`);
  }

  pod(app: App): PodObject {
    return this.pods(app)[0] ?? assert.fail(`${app} has no pod`);
  }

  async get(app: App, ...urls: readonly string[]): Promise<string> {
    return this.#order(this.pod(app), { do: "get", urls });
  }

  /** As `get`, all on one connection. */
  async getOnOneConnection(app: App, ...urls: readonly string[]): Promise<string> {
    return this.#order(this.pod(app), { do: "get", urls, oneConnection: true });
  }

  async ask(app: App, url: string): Promise<EchoAnswer> {
    return echoAnswer(await this.get(app, url));
  }

  async send(app: App, address: string, payload: string): Promise<string> {
    const { hostname, port } = new URL(`tcp://${address}`);
    const host = hostname.replace(/^\[|\]$/g, "");
    return this.#order(this.pod(app), { do: "send", host, port: Number(port), payload });
  }

  reaches(app: App, address: string): Promise<boolean> {
    return reaches(this, app, address);
  }

  async lookUp(app: App, name: string): Promise<string[]> {
    return this.#order(this.pod(app), { do: "look up", name });
  }

  async apply(...objects: readonly object[]): Promise<void> {
    for (const object of objects) this.#workspace.write(fileOf(object), JSON.stringify(object));
  }

  async delete(...objects: readonly object[]): Promise<void> {
    for (const file of objects.map(fileOf))
      if (existsSync(join(this.#workspace.path, file))) this.#workspace.remove(file);
  }

  async clusterIPs(service: string): Promise<readonly string[]> {
    const found = await this.#object(SERVICE, service);
    return (found?.spec as { clusterIPs?: readonly string[] } | undefined)?.clusterIPs ?? [];
  }

  async policyConditions(name: string): Promise<readonly PolicyCondition[]> {
    const found = await this.#object(AUTHORIZATION_POLICY, name);
    return (found?.status as { conditions?: readonly PolicyCondition[] } | undefined)?.conditions ?? [];
  }

  troubles(): Promise<string> {
    return this.mesh.tulle("status").then(
      (said) => assert.fail(`no trouble: ${said}`),
      (error: CommandError) => error.stdout,
    );
  }

  async ztunnelMetrics(prefix: string): Promise<Sample[]> {
    const pages = await Promise.all(
      ["node-1", "node-2"].map((node) => exchange(this.mesh.namespaceOf(node), METRICS_PORT, "/metrics")),
    );
    return pages.flatMap(parseMetrics).filter(({ name }) => name.startsWith(prefix));
  }

  /** Requests from the app's pod until `stopLoad`; one load a pod. */
  async startLoad(app: App, load: Omit<LoadOrder, "do">): Promise<void> {
    await this.#order(this.pod(app), { do: "load", ...load });
  }

  async stopLoad(app: App): Promise<LoadSummary> {
    return this.#order(this.pod(app), { do: "stop" });
  }

  #object(kind: ResourceKind, name: string): Promise<KubeObject | undefined> {
    return this.#store.get(kind, { namespace: NAMESPACE, name } satisfies ObjectRef);
  }

  async #order<T>({ metadata }: PodObject, order: Order): Promise<T> {
    const namespace = this.mesh.namespaceOf(`${metadata.namespace}.${metadata.name}`);
    return JSON.parse(await exchange(namespace, ORDERS_PORT, "/", JSON.stringify(order))) as T;
  }
}

/** A Deployment of echoes; `changes` go to its pods' template. */
export function deployment(
  app: App,
  changes: { labels?: Record<string, string>; annotations?: Record<string, string> } = {},
): object {
  const variable = (name: string, value: string | number) => ({ name, value: `${value}` });
  const env = [
    variable("HTTP_PORT", ECHO_PORTS.http),
    variable("TCP_PORT", app === "local" ? LOCAL_ONLY_PORT : ECHO_PORTS.tcp),
    ...(app === "local" ? [variable("TCP_HOST", "127.0.0.1")] : []),
    variable("SERVER_FIRST_PORT", ECHO_PORTS.serverFirst),
    variable("ORDERS_PORT", ORDERS_PORT),
    { name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
  ];
  const labels = { app, ...(app === "uncaptured" ? OUT_OF_MESH : {}), ...changes.labels };
  const readinessProbe = { httpGet: { port: ECHO_PORTS.http, path: "/ready" }, periodSeconds: 1, timeoutSeconds: 5 };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: app, namespace: namespaceOf(app) },
    spec: {
      replicas: app === "captured" ? 2 : 1,
      selector: { matchLabels: { app } },
      template: {
        metadata: { labels, annotations: changes.annotations ?? {} },
        spec: {
          serviceAccountName: app,
          terminationGracePeriodSeconds: GRACE_SECONDS,
          containers: [{ name: "echo", command: ["node", "echo.ts"], env, readinessProbe }],
        },
      },
    },
  };
}

/** Asked into the mesh or not. */
export function namespaceObject(name: string, ambient = true): object {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels: ambient ? AMBIENT : {} } };
}

function objects(): object[] {
  return [
    ...[NAMESPACE, ELSEWHERE].map((name) => namespaceObject(name)),
    ...APPS.flatMap((app) => [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: app, namespace: namespaceOf(app) } },
      deployment(app),
      service(app, app, [
        { name: "http", port: 80, targetPort: ECHO_PORTS.http },
        { name: "http-alt", port: ECHO_PORTS.http },
        { name: "tcp", port: ECHO_PORTS.tcp },
        { name: "tcp-first", port: ECHO_PORTS.serverFirst },
      ]),
    ]),
    ...(["captured", "uncaptured"] as const).map((app) =>
      service(`${app}-headless`, app, [{ name: "http", port: ECHO_PORTS.http }], { clusterIP: "None" }),
    ),
  ];
}

function service(name: string, app: App, ports: readonly object[], more: object = {}): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: namespaceOf(app) },
    spec: { ipFamilyPolicy: "PreferDualStack", selector: { app }, ports, ...more },
  };
}

/** JSON is YAML. */
function fileOf(object: object): string {
  const { kind, metadata } = object as KubeObject;
  return [kind, metadata.namespace, metadata.name, "yaml"].filter((part) => part !== undefined).join(".");
}

/** Asks who listens on loopback in a namespace. Throws with the body when the status is not 200. */
async function exchange(namespacePath: string, port: number, path: string, body?: string): Promise<string> {
  const socket = await connectFrom(namespacePath, { ip: "127.0.0.1", port });
  try {
    const [status, said] = await new Promise<[number | undefined, string]>((resolve, reject) => {
      const method = body === undefined ? "GET" : "POST";
      const options = { method, path, createConnection: () => socket, signal: AbortSignal.timeout(ORDER_TIMEOUT_MS) };
      const call = request(options, (answer) => {
        text(answer).then((content) => resolve([answer.statusCode, content]), reject);
      });
      call.on("error", reject).end(body);
    });
    if (status !== 200) throw new Error(said);
    return said;
  } finally {
    socket.destroy();
  }
}
