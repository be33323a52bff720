import type { Kind } from "./kinds.ts";
import {
  boolean,
  type Check,
  either,
  ignored,
  integer,
  list,
  mapOf,
  object,
  oneOf,
  refused,
  string,
} from "./schema.ts";

/** Which fields of which kind are honoured, which are without effect here, and which are refused with a reason. */

const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const PORT_NAME = /^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_.-]*$/;

/** More pods than one machine of this kind can hold anyway: each is a process of its own (§ limits). */
export const MAX_REPLICAS = 50;
/** The largest probe time that makes sense on one machine, in seconds. */
const MAX_PROBE_SECONDS = 3600;

const labelName = string(DNS_LABEL, "is not a valid name: lower-case letters, digits and dashes, at most 63");
const subdomainName = string(DNS_SUBDOMAIN, "is not a valid name: lower-case letters, digits, dashes and dots");
const portNumber = integer(1, 65535);
const port = either("must be a port number from 1 to 65535 or the name of a port", portNumber, string(PORT_NAME));
const strings = list(string());
const labels = mapOf(string());
const selector = object({ matchLabels: labels });

/** Labels that ask for something which is not there yet: taking them silently would let traffic past a waypoint. */
const meshLabels: Check = (value, path, report) => {
  labels(value, path, report);
  for (const name of Object.keys(value ?? {})) {
    if (name.startsWith("istio.io/use-waypoint"))
      report([...path, name], "asks for a waypoint; the local mesh has none yet");
  }
};

const annotations: Check = (value, path, report) => {
  labels(value, path, report);
  for (const name of Object.keys(value ?? {})) {
    if (/^(ambient\.istio\.io|traffic\.sidecar\.istio\.io)\/|^istio\.io\/(reroute|dry-run)/.test(name)) {
      report([...path, name], "is not supported by the local mesh: remove it");
    }
  }
};

function metadata(name: Check, namespaced: boolean): Check {
  return object(
    {
      name,
      ...(namespaced ? { namespace: labelName } : {}),
      labels: meshLabels,
      annotations,
      uid: ignored,
      resourceVersion: ignored,
      generation: ignored,
      creationTimestamp: ignored,
      managedFields: ignored,
    },
    ["name"],
  );
}

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
export const FIELD_PATHS = [
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

const podTemplate = object(
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

const matchItem = object({
  source: object({
    principals: strings,
    notPrincipals: strings,
    serviceAccounts: strings,
    notServiceAccounts: strings,
    namespaces: strings,
    notNamespaces: strings,
    ipBlocks: strings,
    notIpBlocks: strings,
    remoteIpBlocks: strings,
    notRemoteIpBlocks: strings,
    requestPrincipals: strings,
    notRequestPrincipals: strings,
  }),
});

const operationItem = object({
  operation: object({
    ports: strings,
    notPorts: strings,
    hosts: strings,
    notHosts: strings,
    methods: strings,
    notMethods: strings,
    paths: strings,
    notPaths: strings,
  }),
});

const mode = oneOf("UNSET", "DISABLE", "PERMISSIVE", "STRICT");

/** `spec` of every kind, and whether the kind lives in a namespace. */
const SPECS: Readonly<Record<Kind, { readonly apiVersions: readonly string[]; readonly check: Check }>> = {
  Namespace: {
    apiVersions: ["v1"],
    check: object({ metadata: metadata(labelName, false), spec: object({ finalizers: ignored }), status: ignored }),
  },
  ServiceAccount: {
    apiVersions: ["v1"],
    check: object({
      metadata: metadata(subdomainName, true),
      secrets: ignored,
      imagePullSecrets: ignored,
      automountServiceAccountToken: ignored,
    }),
  },
  Service: {
    apiVersions: ["v1"],
    check: object(
      {
        metadata: metadata(labelName, true),
        spec: object({
          type: oneOf("ClusterIP", "LoadBalancer"),
          clusterIP: either('must be "None" or left out: addresses are given out by the mesh', oneOf("None", "")),
          selector: labels,
          ipFamilies: list(oneOf("IPv4", "IPv6"), { max: 2 }),
          ipFamilyPolicy: oneOf("SingleStack", "PreferDualStack", "RequireDualStack"),
          sessionAffinity: oneOf("None"),
          internalTrafficPolicy: oneOf("Cluster"),
          externalTrafficPolicy: oneOf("Cluster"),
          publishNotReadyAddresses: boolean,
          ports: list(
            object(
              {
                name: string(PORT_NAME, "is not a valid port name"),
                port: portNumber,
                targetPort: port,
                protocol: oneOf("TCP"),
                appProtocol: string(),
              },
              ["port"],
            ),
          ),
        }),
        status: ignored,
      },
      ["spec"],
    ),
  },
  Deployment: {
    apiVersions: ["apps/v1"],
    check: object(
      {
        metadata: metadata(subdomainName, true),
        spec: object(
          {
            replicas: integer(0, MAX_REPLICAS),
            selector,
            template: podTemplate,
            strategy: object({ type: oneOf("RollingUpdate"), rollingUpdate: ignored }),
            revisionHistoryLimit: ignored,
            progressDeadlineSeconds: ignored,
          },
          ["selector", "template"],
        ),
        status: ignored,
      },
      ["spec"],
    ),
  },
  AuthorizationPolicy: {
    apiVersions: ["security.istio.io/v1", "security.istio.io/v1beta1"],
    check: object({
      metadata: metadata(subdomainName, true),
      spec: object({
        selector,
        action: oneOf("ALLOW", "DENY"),
        rules: list(
          object({
            from: list(matchItem),
            to: list(operationItem),
            when: list(object({ key: string(), values: strings, notValues: strings }, ["key"])),
          }),
        ),
        targetRef: refused("policies for waypoints come later"),
        targetRefs: refused("policies for waypoints come later"),
      }),
      status: ignored,
    }),
  },
  PeerAuthentication: {
    apiVersions: ["security.istio.io/v1", "security.istio.io/v1beta1"],
    check: object({
      metadata: metadata(subdomainName, true),
      spec: object({ selector, mtls: object({ mode }), portLevelMtls: mapOf(object({ mode })) }),
      status: ignored,
    }),
  },
};

export const KINDS = Object.keys(SPECS) as readonly Kind[];

export function isKind(kind: unknown): kind is Kind {
  return typeof kind === "string" && Object.hasOwn(SPECS, kind);
}

/** Checks everything of a document but `kind`, which the caller has looked at. */
export function checkOf(kind: Kind): Check {
  const { apiVersions, check } = SPECS[kind];
  return (value, path, report) => {
    const { apiVersion, kind: _kind, ...rest } = value as Record<string, unknown>;
    if (!apiVersions.includes(apiVersion as string)) {
      report([...path, "apiVersion"], `must be ${apiVersions.join(" or ")} for a ${kind}`);
    }
    if (rest.metadata === undefined) report(path, 'must have "metadata"');
    check(rest, path, report);
  };
}
