import {
  CONTROL_PLANE_HTTP_PORT,
  CONTROL_PLANE_MONITORING_PORT,
  CONTROL_PLANE_PORT,
  MESH_CONFIG_MAP,
  ROOT_CERT_CONFIG_MAP,
  TOKEN_AUDIENCE,
} from "@tulle/base";
import type { KubeObject } from "@tulle/store";
import { VERSION } from "../../version.ts";
import {
  environment,
  image,
  ISTIOD,
  labelsOf,
  type ManifestInput,
  OUTSIDE_THE_MESH,
  placement,
  podField,
  pullPolicy,
  pullSecrets,
  REVISION,
  scrape,
} from "./common.ts";
import { enrolmentEnvironment } from "./node-agent.ts";
import { clusterGrant, namespaceGrant, READ, serviceAccount } from "./rbac.ts";

/** Deployment and Service istiod (spec: control-plane §9). */

/** Labels by which tools and the Service find it. */
const SELECTOR = { app: ISTIOD, istio: "pilot" };
/** Shared with sidecars and ztunnel. */
const ISTIO_USER = 1337;
const SELF_SIGNED_CA_SECRET = "istio-ca-secret";
const PLUGGED_CA_SECRET = "cacerts";

export function controlPlaneObjects(input: ManifestInput): KubeObject[] {
  const part = { part: ISTIOD, serviceAccount: ISTIOD };
  return [
    serviceAccount(input, ISTIOD, ISTIOD),
    ...clusterGrant(input, {
      ...part,
      role: "istiod-clusterrole",
      rules: [
        { apiGroups: [""], resources: ["pods", "nodes", "services", "namespaces"], verbs: READ },
        { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: READ },
        {
          apiGroups: ["networking.istio.io"],
          resources: ["serviceentries", "workloadentries"],
          verbs: READ,
        },
        {
          apiGroups: ["security.istio.io"],
          resources: ["authorizationpolicies", "peerauthentications"],
          verbs: READ,
        },
        { apiGroups: ["gateway.networking.k8s.io"], resources: ["gateways", "gatewayclasses"], verbs: READ },
        // Status only; of a pod the word that it has left.
        { apiGroups: [""], resources: ["services/status", "pods/status"], verbs: ["patch"] },
        {
          apiGroups: ["networking.istio.io"],
          resources: ["serviceentries/status", "workloadentries/status"],
          verbs: ["patch"],
        },
        {
          apiGroups: ["security.istio.io"],
          resources: ["authorizationpolicies/status", "peerauthentications/status"],
          verbs: ["patch"],
        },
        { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
        { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
        // The mesh's root certificate in each namespace, and no other ConfigMap.
        {
          apiGroups: [""],
          resources: ["configmaps"],
          resourceNames: [ROOT_CERT_CONFIG_MAP],
          // Server-side apply names what it creates, and the watch what it follows: both can be restricted by name.
          verbs: [...READ, "create", "patch"],
        },
      ],
    }),
    ...namespaceGrant(input, {
      ...part,
      role: ISTIOD,
      rules: [
        { apiGroups: [""], resources: ["configmaps"], resourceNames: [MESH_CONFIG_MAP], verbs: READ },
        {
          apiGroups: [""],
          resources: ["secrets"],
          resourceNames: [SELF_SIGNED_CA_SECRET],
          verbs: ["get"],
        },
        // The name of what is created cannot be restricted.
        { apiGroups: [""], resources: ["secrets"], verbs: ["create"] },
      ],
    }),
    service(input),
    deployment(input),
  ];
}

function service(input: ManifestInput): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: ISTIOD,
      namespace: input.namespace,
      labels: { ...SELECTOR, "istio.io/rev": REVISION, ...labelsOf(input, ISTIOD) },
    },
    spec: {
      selector: SELECTOR,
      ports: [
        { name: "https-dns", port: CONTROL_PLANE_PORT, protocol: "TCP" },
        { name: "http-monitoring", port: CONTROL_PLANE_MONITORING_PORT, protocol: "TCP" },
      ],
    },
  };
}

function deployment(input: ManifestInput): KubeObject {
  const { values, namespace } = input;
  const labels = { ...SELECTOR, "istio.io/rev": REVISION, ...labelsOf(input, ISTIOD) };
  const tolerations = values["pilot.tolerations"];
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: ISTIOD, namespace, labels },
    spec: {
      replicas: 1,
      selector: { matchLabels: SELECTOR },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: {
        metadata: {
          labels: { ...labels, ...OUTSIDE_THE_MESH, ...values["pilot.podLabels"] },
          annotations: { ...scrape(CONTROL_PLANE_MONITORING_PORT), ...values["pilot.podAnnotations"] },
        },
        spec: {
          serviceAccountName: ISTIOD,
          securityContext: { fsGroup: ISTIO_USER },
          ...(values["global.priorityClassName"] !== "" && { priorityClassName: values["global.priorityClassName"] }),
          ...placement({
            nodeSelector: { "kubernetes.io/os": "linux", ...values["pilot.nodeSelector"] },
            affinity: values["pilot.affinity"],
          }),
          ...(tolerations.length > 0 && { tolerations }),
          ...pullSecrets(input),
          containers: [container(input)],
          volumes: [
            { name: PLUGGED_CA_SECRET, secret: { secretName: PLUGGED_CA_SECRET, optional: true } },
            { name: "tmp", emptyDir: {} },
          ],
        },
      },
    },
  };
}

function container(input: ManifestInput): object {
  const { values, namespace } = input;
  const ztunnelNamespace = values["pilot.trustedZtunnelNamespace"] || namespace;
  return {
    name: "discovery",
    image: image(input, "control-plane"),
    ...pullPolicy(input),
    ports: [
      { name: "http-debug", containerPort: CONTROL_PLANE_HTTP_PORT, protocol: "TCP" },
      { name: "https-dns", containerPort: CONTROL_PLANE_PORT, protocol: "TCP" },
      { name: "http-monitoring", containerPort: CONTROL_PLANE_MONITORING_PORT, protocol: "TCP" },
    ],
    readinessProbe: {
      httpGet: { path: "/ready", port: CONTROL_PLANE_HTTP_PORT },
      periodSeconds: 2,
      timeoutSeconds: 5,
    },
    resources: values["pilot.resources"],
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
      runAsUser: ISTIO_USER,
      runAsGroup: ISTIO_USER,
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
    },
    env: environment(
      [
        ["REVISION", REVISION],
        ["POD_NAME", podField("metadata.name")],
        ["POD_NAMESPACE", podField("metadata.namespace")],
        ["TULLE_VERSION", VERSION],
        ["CLUSTER_ID", values["global.multiCluster.clusterName"]],
        ["DOMAIN_SUFFIX", values["global.proxy.clusterDomain"]],
        ["TOKEN_AUDIENCES", TOKEN_AUDIENCE],
        ["CA_TRUSTED_NODE_ACCOUNTS", `${ztunnelNamespace}/${values["pilot.trustedZtunnelName"]}`],
        ...enrolmentEnvironment(values),
        ["TULLE_LOG", values["global.logging.level"]],
        ["LOG_FORMAT", values["global.logAsJson"] ? "json" : undefined],
      ],
      values["pilot.env"],
    ),
    volumeMounts: [
      { name: PLUGGED_CA_SECRET, mountPath: "/etc/cacerts", readOnly: true },
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
}
