import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "@tulle/api";
import { type Identity, type Log, silentLog } from "@tulle/base";
import { decodeAddress } from "@tulle/mesh/wds";
import { CaClient, openGrpcChannel } from "@tulle/pki";
import { NAMESPACE, POD, type Pod, type Store } from "@tulle/store";
import { proxyNode, XdsClient, type XdsNode, type XdsTypeHandler } from "@tulle/xds";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { type Config, readConfig } from "../config.ts";
import { type ControlPlane, startControlPlane } from "../wire.ts";
import { MemoryStore } from "./memory-store.fixture.ts";

export const ZTUNNEL = "istio-system/ztunnel";
const TIMEOUT_MS = 8_000;
/** Long enough for a pod that comes 50 ms late, short enough for tables of refusals. */
const PATIENCE_MS = 200;

export interface TokenOptions {
  readonly audience?: string;
  /** Seconds from now. Default 600. */
  readonly expiresIn?: number;
  readonly issuedAt?: number;
  /** Laid over the claims. */
  readonly claims?: JWTPayload;
  readonly node?: string | undefined;
}

/** A control plane over objects in memory, on loopback ports, with real TLS and tokens signed by the test. */
export class TestMesh implements AsyncDisposable {
  readonly store: MemoryStore;
  readonly log: string[] = [];
  readonly #folder: string;
  readonly #key: CryptoKey;
  readonly #clients: AbortController[] = [];
  readonly #caClients: CaClient[] = [];
  readonly config: Config;
  #controlPlane: ControlPlane | undefined;

  private constructor(folder: string, key: CryptoKey, env: Readonly<Record<string, string>>, store: MemoryStore) {
    this.#folder = folder;
    this.#key = key;
    this.store = store;
    this.config = readConfig({
      TULLE_LISTEN_HOST: "127.0.0.1",
      TULLE_SECURE_GRPC_PORT: "0",
      TULLE_HTTP_PORT: "0",
      TULLE_MONITORING_PORT: "0",
      TULLE_TOKEN_JWKS: join(folder, "jwks.json"),
      CA_TRUSTED_NODE_ACCOUNTS: ZTUNNEL,
      ISTIOD_CUSTOM_HOST: "localhost,127.0.0.1",
      ROOT_CA_DIR: join(folder, "no-cacerts"),
      TERMINATION_DRAIN_DURATION: "200ms",
      ...env,
    });
  }

  static async create(
    options: { readonly env?: Readonly<Record<string, string>>; readonly store?: MemoryStore } = {},
  ): Promise<TestMesh> {
    const folder = await mkdtemp(join(tmpdir(), "tulle-cp-"));
    const { publicKey, privateKey } = await generateKeyPair("ES256");
    const jwk = { ...(await exportJWK(publicKey)), alg: "ES256", kid: "test" };
    await writeFile(join(folder, "jwks.json"), JSON.stringify({ keys: [jwk] }));
    const { env = {}, store = new MemoryStore() } = options;
    return new TestMesh(folder, privateKey, env, store);
  }

  /** Created and started, with two nodes' ztunnels and the namespaces istio-system and shop (the latter in the mesh). */
  static async start(options: Parameters<typeof TestMesh.create>[0] = {}): Promise<TestMesh> {
    const mesh = await TestMesh.create(options);
    mesh.putNamespace("istio-system");
    mesh.putNamespace("shop", { "istio.io/dataplane-mode": "ambient" });
    mesh.putZtunnel("n1");
    mesh.putZtunnel("n2");
    await mesh.run();
    await mesh.controlPlane.ready;
    return mesh;
  }

  /** Without waiting until it is ready. */
  async run(store: Store = this.store): Promise<void> {
    this.#controlPlane = await startControlPlane(this.config, {
      store,
      log: this.#recorder(),
      patienceMs: PATIENCE_MS,
    });
  }

  get controlPlane(): ControlPlane {
    if (this.#controlPlane === undefined) throw new Error("not started");
    return this.#controlPlane;
  }

  get address(): string {
    return `https://localhost:${this.controlPlane.ports.secureGrpc}`;
  }

  putNamespace(name: string, labels: Readonly<Record<string, string>> = {}): void {
    this.store.put(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  }

  putZtunnel(node: string): Pod {
    return this.putPod({
      name: `ztunnel-${node}`,
      namespace: "istio-system",
      account: "ztunnel",
      node,
      ip: "10.9.0.1",
    });
  }

  putPod(pod: {
    readonly name: string;
    readonly namespace?: string;
    readonly account?: string;
    readonly node?: string;
    readonly ip?: string;
    readonly uid?: string;
    readonly phase?: string;
    readonly hostNetwork?: boolean;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  }): Pod {
    const { name, namespace = "shop", account = "default", node = "n1", ip = "10.1.0.1", phase = "Running" } = pod;
    return this.store.put<Pod>(POD, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name,
        namespace,
        ...(pod.uid === undefined ? {} : { uid: pod.uid }),
        labels: pod.labels ?? {},
        annotations: pod.annotations ?? {},
      },
      spec: { nodeName: node, serviceAccountName: account, hostNetwork: pod.hostNetwork ?? false },
      status: { phase, podIP: ip, conditions: [{ type: "Ready", status: "True" }] },
    });
  }

  /** As kubelet would project it into the pod. */
  token(pod: Pod, options: TokenOptions = {}): Promise<string> {
    const { namespace = "", name, uid } = pod.metadata;
    const account = pod.spec?.serviceAccountName ?? "default";
    const now = Math.floor(Date.now() / 1000);
    const iat = options.issuedAt ?? now;
    const node = "node" in options ? options.node : pod.spec?.nodeName;
    return new SignJWT({
      "kubernetes.io": {
        namespace,
        pod: { name, uid },
        serviceaccount: { name: account, uid: randomUUID() },
        ...(node === undefined ? {} : { node: { name: node } }),
      },
      iss: "https://test.invalid",
      sub: `system:serviceaccount:${namespace}:${account}`,
      aud: [options.audience ?? "istio-ca"],
      iat,
      exp: now + (options.expiresIn ?? 600),
      ...options.claims,
    })
      .setProtectedHeader({ alg: "ES256", kid: "test" })
      .sign(this.#key);
  }

  /** A certificate for an identity, asked for with a token. Rejects as the CA refuses. */
  async certificate(
    token: string,
    identity: Identity,
    options: {
      readonly clusterId?: string | undefined;
      readonly ttlSeconds?: number;
      readonly impersonate?: boolean;
    } = {},
  ) {
    const client = new CaClient({
      address: this.address,
      roots: { kind: "pem", pem: this.controlPlane.roots() },
      token: { kind: "literal", token },
      ...("clusterId" in options
        ? options.clusterId === undefined
          ? {}
          : { clusterId: options.clusterId }
        : { clusterId: "Kubernetes" }),
      ...(options.ttlSeconds === undefined ? {} : { ttlSeconds: options.ttlSeconds }),
      impersonate: options.impersonate ?? true,
    });
    this.#caClients.push(client);
    return client.fetch(identity, AbortSignal.timeout(TIMEOUT_MS));
  }

  /** A ztunnel's stream, with what it holds. */
  async ztunnel(pod: Pod, options: ProxyOptions = {}): Promise<TestProxy> {
    const token = options.token ?? (await this.token(pod));
    const proxy = new TestProxy(this, pod, token, options);
    this.#clients.push(proxy.ended);
    return proxy;
  }

  channel(token: string | undefined, clusterId = "Kubernetes") {
    return openGrpcChannel({
      address: this.address,
      roots: { kind: "pem", pem: this.controlPlane.roots() },
      token: token === undefined ? { kind: "none" } : { kind: "literal", token },
      clusterId,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.abort();
    for (const client of this.#caClients) client.close();
    await this.#controlPlane?.drain();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #recorder(): Log {
    const note = (message: string, fields: object = {}) => {
      this.log.push(`${message} ${JSON.stringify(fields)}`);
    };
    const log: Log = { debug: () => undefined, info: note, warn: note, error: note, scope: () => log };
    return log;
  }
}

export interface ProxyOptions {
  readonly token?: string;
  readonly node?: Partial<XdsNode>;
  /** Acknowledgements of addresses wait for it. */
  readonly gate?: () => Promise<void>;
}

export class TestProxy {
  readonly ended = new AbortController();
  /** Protocol of each workload, by uid; services as `service`. */
  readonly addresses = new Map<string, string>();
  readonly policies = new Set<string>();
  /** Names in each response, of both types. */
  readonly responses: string[][] = [];
  readonly client: XdsClient;
  readonly running: Promise<void>;

  constructor(mesh: TestMesh, pod: Pod, token: string, options: ProxyOptions) {
    const { name, namespace = "" } = pod.metadata;
    const node = proxyNode({ podName: name, podNamespace: namespace, nodeName: pod.spec?.nodeName ?? "" });
    const addresses: XdsTypeHandler = {
      typeUrl: ADDRESS_TYPE,
      apply: async ({ resources, removed }) => {
        this.responses.push([...resources.map((one) => one.name), ...removed.map((one) => `-${one}`)]);
        for (const one of resources) {
          const decoded = decodeAddress(one.bytes);
          const change = "value" in decoded ? decoded.value : undefined;
          this.addresses.set(one.name, change?.kind === "workload" ? change.workload.protocol : "service");
        }
        for (const one of removed) this.addresses.delete(one);
        await options.gate?.();
        return [];
      },
    };
    const policies: XdsTypeHandler = {
      typeUrl: AUTHORIZATION_TYPE,
      apply: ({ resources, removed }) => {
        this.responses.push([...resources.map((one) => one.name), ...removed.map((one) => `-${one}`)]);
        for (const one of resources) this.policies.add(one.name);
        for (const one of removed) this.policies.delete(one);
        return [];
      },
    };
    this.client = new XdsClient({
      open: () => mesh.channel(token),
      node: { ...node, ...options.node },
      types: [addresses, policies],
      log: silentLog,
    });
    this.running = this.client.run(this.ended.signal);
  }

  close(): Promise<void> {
    this.ended.abort();
    return this.running;
  }
}

/** Waits for a condition. Rejects with `what` after 8 s. */
export async function until(condition: () => boolean, what = "the condition"): Promise<void> {
  const end = performance.now() + TIMEOUT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`timeout: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
