import assert from "node:assert/strict";
import {
  ECHO_PORTS,
  type EchoAnswer,
  echo,
  echoAnswer,
  ENROL,
  Mesh,
  type PodObject,
  type TestCluster,
} from "../src/index.ts";

export const NAMESPACE = "acceptance";
/** Another namespace of the mesh. */
export const ELSEWHERE = "acceptance-elsewhere";
export const OUT_OF_MESH = { "istio.io/dataplane-mode": "none" } as const;
/** Listens on the pod's loopback address only. */
export const LOCAL_ONLY_PORT = ECHO_PORTS.tcp;

/**
 * Applications of the acceptance tests:
 * `captured` two pods, one a node · `client` n1 · `stranger` n2, of another identity · `uncaptured` not in the mesh ·
 * `local` with one port that only its pod reaches · `visitor` in another namespace.
 */
export type App = "captured" | "client" | "stranger" | "uncaptured" | "local" | "visitor";

/** The acceptance tests' applications on the cluster, and questions to them. */
export class Applications {
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

  /** What the echo at the URL says to a pod of the app; throws when there is no answer. */
  async ask(app: App, url: string): Promise<EchoAnswer> {
    return echoAnswer(await this.get(app, url));
  }

  /** Status and body. */
  async get(app: App, url: string): Promise<string> {
    return this.cluster.execDirectly(this.pod(app), ["/labbox", "get", "-timeout=3s", url]);
  }

  /** What comes back from a TCP echo. */
  async send(app: App, address: string, payload: string): Promise<string> {
    const command = ["/labbox", "marker", "-timeout=3s", `tcp://${address}`, payload];
    return (await this.cluster.execDirectly(this.pod(app), command)).trim();
  }

  /** Whether a new connection of the app to `HOST:PORT` carries a line to and fro. */
  async reaches(app: App, address: string): Promise<boolean> {
    const isHttp = address.endsWith(`:${ECHO_PORTS.http}`) || address.endsWith(":80");
    try {
      await (isHttp ? this.get(app, `http://${address}/`) : this.send(app, address, "ping"));
      return true;
    } catch {
      // Refused, reset, or no answer in time: all the same to a client.
      return false;
    }
  }
}

/** Of a pod, IPv4 first; ready for a URL. */
export function hosts({ status }: PodObject): string[] {
  return (status.podIPs ?? []).map(({ ip }) => (ip.includes(":") ? `[${ip}]` : ip));
}

/** The address in `1.2.3.4:80` or `[::1]:80`. */
export function hostOf(address: string): string {
  return new URL(`http://${address}`).hostname.replace(/^\[|\]$/g, "");
}

const APPS: readonly App[] = ["captured", "client", "stranger", "uncaptured", "local", "visitor"];

function namespaceOf(app: App): string {
  return app === "visitor" ? ELSEWHERE : NAMESPACE;
}

function namespaceObject(name: string): object {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name } };
}

function objects(): object[] {
  const namespace = NAMESPACE;
  return [
    ...echo({ name: "captured", namespace, replicas: 2, lingerSeconds: 3 }),
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
