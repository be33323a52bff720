import {
  annotations,
  labelName,
  meshLabels,
  PORT_NAME,
  port,
  portNumber,
  strings,
  subdomainName,
} from "./common-fields.ts";
import { type Check, ignored, integer, list, object, oneOf, refused, string } from "./schema.ts";

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_.-]*$/;
/** The largest probe time that makes sense on one machine, in seconds. */
const MAX_PROBE_SECONDS = 3600;

const probe: Check = (value, path, report) => {
  object({
    httpGet: object(
      {
        path: string(/^\//, "must begin with /"),
        port,
        scheme: oneOf("HTTP"),
        httpHeaders: list(object({ name: string(), value: string() }, ["name", "value"])),
      },
      ["port"],
    ),
    tcpSocket: object({ port }, ["port"]),
    initialDelaySeconds: integer(0, MAX_PROBE_SECONDS),
    periodSeconds: integer(1, MAX_PROBE_SECONDS),
    timeoutSeconds: integer(1, MAX_PROBE_SECONDS),
    successThreshold: integer(1, 100),
    failureThreshold: integer(1, 100),
  })(value, path, report);
  const asked = (value ?? {}) as Record<string, unknown>;
  if ((asked.httpGet === undefined) === (asked.tcpSocket === undefined)) {
    report(path, "must have exactly one of httpGet and tcpSocket");
  }
};

/** The parts of a pod that its own processes may ask for (the downward API). */
const FIELD_PATHS = [
  "metadata.name",
  "metadata.namespace",
  "metadata.uid",
  "spec.nodeName",
  "spec.serviceAccountName",
  "status.podIP",
  "status.hostIP",
] as const;

const container = object(
  {
    name: labelName,
    image: string(),
    imagePullPolicy: ignored,
    command: list(string(), { min: 1 }),
    args: strings,
    env: list(
      object(
        {
          name: string(ENV_NAME, "is not a valid name of a variable"),
          value: string(),
          valueFrom: object(
            { fieldRef: object({ apiVersion: ignored, fieldPath: oneOf(...FIELD_PATHS) }, ["fieldPath"]) },
            ["fieldRef"],
          ),
        },
        ["name"],
      ),
    ),
    ports: list(
      object(
        { name: string(PORT_NAME, "is not a valid port name"), containerPort: portNumber, protocol: oneOf("TCP") },
        ["containerPort"],
      ),
    ),
    readinessProbe: probe,
    resources: object({ requests: ignored, limits: refused("no limit is enforced here, remove it") }),
    terminationMessagePath: ignored,
    terminationMessagePolicy: ignored,
  },
  ["name"],
);

/** The template of a Deployment: what of a pod is honoured. */
export const podTemplate = object(
  {
    metadata: object({ labels: meshLabels, annotations, creationTimestamp: ignored }, ["labels"]),
    spec: object(
      {
        serviceAccountName: subdomainName,
        containers: list(container, { min: 1, max: 10 }),
        restartPolicy: oneOf("Always"),
        dnsPolicy: oneOf("ClusterFirst"),
        schedulerName: oneOf("default-scheduler"),
        terminationGracePeriodSeconds: integer(0, 30),
        automountServiceAccountToken: oneOf(false),
        enableServiceLinks: oneOf(false),
      },
      ["containers"],
    ),
  },
  ["metadata", "spec"],
);
