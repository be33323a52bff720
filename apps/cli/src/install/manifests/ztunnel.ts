import { CONTROL_PLANE_PORT, METRICS_PORT, READINESS_PORT, ROOT_CERT_CONFIG_MAP, TOKEN_AUDIENCE } from "@tulle/base";
import type { KubeObject } from "@tulle/store";
import type { StringMap } from "../value-fields.ts";
import { VERSION } from "../../version.ts";
import {
  CRITICAL,
  environment,
  EVERYWHERE,
  image,
  ISTIOD,
  labelsOf,
  type ManifestInput,
  OUTSIDE_THE_MESH,
  placement,
  podField,
  pullPolicy,
  pullSecrets,
  scrape,
  ZTUNNEL,
} from "./common.ts";
import { serviceAccount } from "./rbac.ts";

/** DaemonSet ztunnel (spec: control-plane §9). It has no rights at the API server. */

/** Folder of the node agent's socket, on the host and in the pod. */
export const ZDS_FOLDER = "/var/run/ztunnel";
/** It serves HBONE for its own pod, so that its metrics can be scraped by mutual TLS from inside of the mesh. */
const OWN_TUNNEL: StringMap = { "networking.istio.io/tunnel": "http" };
/** Lifetime of the projected token; kubelet renews it at four fifths. */
const TOKEN_SECONDS = 43_200;
/** Shared with sidecars, so that files of one can be read by the other. */
const ISTIO_GROUP = 1337;

export function ztunnelObjects(input: ManifestInput): KubeObject[] {
  return [serviceAccount(input, ZTUNNEL, ZTUNNEL), daemonSet(input)];
}

function daemonSet(input: ManifestInput): KubeObject {
  const { values, namespace } = input;
  const labels = { app: ZTUNNEL, ...labelsOf(input, ZTUNNEL) };
  const grace = values["ztunnel.terminationGracePeriodSeconds"];
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: ZTUNNEL, namespace, labels },
    spec: {
      selector: { matchLabels: { app: ZTUNNEL } },
      // The new one takes over before the old one goes: no new connection is refused meanwhile.
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: {
        metadata: {
          labels: { ...labels, ...OUTSIDE_THE_MESH, ...OWN_TUNNEL, ...values["ztunnel.podLabels"] },
          annotations: { ...scrape(METRICS_PORT), ...values["ztunnel.podAnnotations"] },
        },
        spec: {
          serviceAccountName: ZTUNNEL,
          // Its only token is the projected one for the control plane.
          automountServiceAccountToken: false,
          priorityClassName: CRITICAL,
          terminationGracePeriodSeconds: grace,
          ...placement({ nodeSelector: { "kubernetes.io/os": "linux", ...values["ztunnel.nodeSelector"] } }),
          tolerations: EVERYWHERE,
          ...pullSecrets(input),
          containers: [container(input, grace)],
          volumes: [
            {
              name: "istio-token",
              projected: {
                sources: [
                  {
                    serviceAccountToken: {
                      path: "istio-token",
                      expirationSeconds: TOKEN_SECONDS,
                      audience: TOKEN_AUDIENCE,
                    },
                  },
                ],
              },
            },
            { name: "istiod-ca-cert", configMap: { name: ROOT_CERT_CONFIG_MAP } },
            { name: "zds", hostPath: { path: ZDS_FOLDER, type: "DirectoryOrCreate" } },
            { name: "tmp", emptyDir: {} },
          ],
        },
      },
    },
  };
}

function container(input: ManifestInput, grace: number): object {
  const { values, namespace } = input;
  const controlPlane = `https://${ISTIOD}.${namespace}.svc:${CONTROL_PLANE_PORT}`;
  const json = values["ztunnel.logAsJson"] || values["global.logAsJson"];
  const level = values["ztunnel.logLevel"] || values["global.logging.level"];
  const network = values["global.network"];
  return {
    // Tools that ask for a proxy look for this name.
    name: "istio-proxy",
    image: image(input, "ztunnel"),
    ...pullPolicy(input),
    args: ["proxy", "ztunnel"],
    // Token and root certificate are found relative to it.
    workingDir: "/",
    ports: [
      { name: "ztunnel-stats", containerPort: METRICS_PORT, protocol: "TCP" },
      { name: "readiness", containerPort: READINESS_PORT, protocol: "TCP" },
    ],
    readinessProbe: { httpGet: { path: "/healthz/ready", port: READINESS_PORT } },
    resources: values["ztunnel.resources"],
    securityContext: {
      // The kernel's rule for SYS_ADMIN, which entering a pod's network namespace takes.
      allowPrivilegeEscalation: true,
      privileged: false,
      capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "SYS_ADMIN", "NET_RAW"] },
      readOnlyRootFilesystem: true,
      runAsUser: 0,
      runAsGroup: ISTIO_GROUP,
      runAsNonRoot: false,
      seccompProfile: { type: "RuntimeDefault" },
    },
    env: environment(
      [
        ["CA_ADDRESS", controlPlane],
        ["XDS_ADDRESS", controlPlane],
        ["CLUSTER_DOMAIN", values["global.proxy.clusterDomain"]],
        ["LOG_FORMAT", json ? "json" : undefined],
        ["NETWORK", network === "" ? undefined : network],
        ["RUST_LOG", level],
        ["ISTIO_META_CLUSTER_ID", values["global.multiCluster.clusterName"]],
        ["ISTIO_META_ISTIO_VERSION", VERSION],
        ["INPOD_ENABLED", "true"],
        ["IPV6_ENABLED", values["cni.ambient.ipv6"] ? undefined : "false"],
        ["TERMINATION_GRACE_PERIOD_SECONDS", String(grace)],
        ["POD_NAME", podField("metadata.name")],
        ["POD_NAMESPACE", podField("metadata.namespace")],
        ["NODE_NAME", podField("spec.nodeName")],
        ["INSTANCE_IP", podField("status.podIP")],
        ["SERVICE_ACCOUNT", podField("spec.serviceAccountName")],
        ["ZTUNNEL_CPU_LIMIT", { resourceFieldRef: { resource: "limits.cpu" } }],
      ],
      values["ztunnel.env"],
    ),
    volumeMounts: [
      { name: "istiod-ca-cert", mountPath: "/var/run/secrets/istio", readOnly: true },
      { name: "istio-token", mountPath: "/var/run/secrets/tokens", readOnly: true },
      { name: "zds", mountPath: ZDS_FOLDER },
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
}
