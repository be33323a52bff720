import { LABBOX_IMAGE } from "./artifacts.ts";

export interface EchoOptions {
  /** Of the Deployment, the Service, the ServiceAccount, and the value of the label `app`. */
  readonly name: string;
  /** Default `default`. */
  readonly namespace?: string;
  /** Default 1. Spread over the nodes. */
  readonly replicas?: number;
  /** Only on this node, 1 is n1. */
  readonly node?: number;
  /** Added to the pods'. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Also reachable at this port of every node. */
  readonly nodePort?: number;
  /** Default `["serve"]`. */
  readonly args?: readonly string[];
  /** A pod that is deleted serves on so long: that is how restarts lose no request. Default: it ends at once. */
  readonly lingerSeconds?: number;
}

/** Ports of every echo: `labbox serve` says what they do. The Service has them too, and 80 for `http`. */
export const ECHO_PORTS = { http: 8080, tcp: 9000, serverFirst: 9001 } as const;

/** The answer of the HTTP echo, as JSON. */
export interface EchoAnswer {
  readonly pod: string;
  readonly node: string;
  readonly method: string;
  readonly path: string;
  readonly host: string;
  /** `HTTP/1.1`, `HTTP/2.0`. */
  readonly protocol: string;
  /** The peer's address and port, and the server's. */
  readonly remote: string;
  readonly local: string;
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly body?: string;
}

/** Objects of a test application: a ServiceAccount, a Deployment of labbox servers, and a Service of both families. */
export function echo(options: EchoOptions): object[] {
  const { name, namespace = "default", replicas = 1, labels = {}, nodePort } = options;
  const metadata = { name, namespace };
  const selector = { app: name };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        replicas,
        selector: { matchLabels: selector },
        template: { metadata: { labels: { ...selector, ...labels } }, spec: podSpec(options) },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        type: nodePort === undefined ? "ClusterIP" : "NodePort",
        ipFamilyPolicy: "PreferDualStack",
        selector,
        ports: [
          { name: "http", port: 80, targetPort: ECHO_PORTS.http, ...(nodePort === undefined ? {} : { nodePort }) },
          { name: "http-alt", port: ECHO_PORTS.http },
          { name: "tcp", port: ECHO_PORTS.tcp },
          { name: "tcp-first", port: ECHO_PORTS.serverFirst },
        ],
      },
    },
  ];
}

/** What stands behind the status in the output of `labbox get`. */
export function echoAnswer(output: string): EchoAnswer {
  return JSON.parse(output.slice(output.indexOf("{"))) as EchoAnswer;
}

function podSpec({ name, node, args = ["serve"], lingerSeconds }: EchoOptions) {
  return {
    serviceAccountName: name,
    // Tests restart them often.
    terminationGracePeriodSeconds: 2 + (lingerSeconds ?? 0),
    ...(node === undefined ? {} : { nodeSelector: { "kubernetes.io/hostname": `n${node}` } }),
    topologySpreadConstraints: [
      {
        maxSkew: 1,
        topologyKey: "kubernetes.io/hostname",
        whenUnsatisfiable: "ScheduleAnyway",
        labelSelector: { matchLabels: { app: name } },
      },
    ],
    containers: [
      {
        name: "echo",
        image: LABBOX_IMAGE,
        imagePullPolicy: "Never",
        args,
        env: [{ name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }],
        ports: Object.values(ECHO_PORTS).map((containerPort) => ({ containerPort })),
        // Looked at often; only a machine that is far too busy takes long to answer.
        readinessProbe: { httpGet: { port: ECHO_PORTS.http, path: "/ready" }, periodSeconds: 1, timeoutSeconds: 5 },
        // An exec on a busy machine takes longer than the usual second, and a restart would look like what is being tested.
        livenessProbe: {
          exec: { command: ["/labbox", "get", `http://127.0.0.1:${ECHO_PORTS.http}/live`] },
          timeoutSeconds: 15,
        },
        ...(lingerSeconds === undefined ? {} : { lifecycle: { preStop: { sleep: { seconds: lingerSeconds } } } }),
        // A load of some hundred requests a second from or to a pod must be neither throttled nor starved by what starts.
        resources: { requests: { cpu: "50m", memory: "16Mi" }, limits: { memory: "128Mi" } },
      },
    ],
  };
}
