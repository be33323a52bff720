import { MESH_CONFIG_MAP } from "@tulle/base";
import type { KubeObject } from "@tulle/store";
import type { InstallValues } from "../value-fields.ts";
import {
  CRITICAL,
  environment,
  EVERYWHERE,
  image,
  labelsOf,
  type ManifestInput,
  NODE_AGENT,
  NODE_AGENT_ACCOUNT,
  OUTSIDE_THE_MESH,
  placement,
  podField,
  pullPolicy,
  pullSecrets,
  scrape,
} from "./common.ts";
import { clusterGrant, namespaceGrant, READ, serviceAccount } from "./rbac.ts";
import { ZDS_FOLDER } from "./ztunnel.ts";

/** DaemonSet istio-cni-node: the node agent, which also brings the CNI plugin (spec: control-plane §7). */

const HEALTH_PORT = 8000;
const METRICS_PORT = 15014;
/** The agent's sockets and the plugin's kubeconfig: the plugin on the host finds them at the same path. */
const RUN_FOLDER = "/var/run/istio-cni";
/** Where the container sees the host's folders. */
const MOUNTED_BIN = "/host/opt/cni/bin";
const MOUNTED_CONF = "/host/etc/cni/net.d";
const CGROUPS = "/sys/fs/cgroup";

interface HostFolders {
  readonly bin: string;
  readonly conf: string;
  readonly netns: string;
}

const COMMON: HostFolders = { bin: "/opt/cni/bin", conf: "/etc/cni/net.d", netns: "/var/run/netns" };
const K3S_CONF = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
const MICROK8S = "/var/snap/microk8s/current";
/** Distributions that keep CNI elsewhere. */
const PLATFORMS: Readonly<Record<string, Partial<HostFolders>>> = {
  k3d: { bin: "/bin", conf: K3S_CONF },
  k3s: { bin: "/var/lib/rancher/k3s/data/cni", conf: K3S_CONF },
  microk8s: { bin: `${MICROK8S}/opt/cni/bin`, conf: `${MICROK8S}/args/cni-network` },
  minikube: { netns: "/var/run/docker/netns" },
};

export function nodeAgentObjects(input: ManifestInput): KubeObject[] {
  const part = "istio-cni";
  return [
    serviceAccount(input, part, NODE_AGENT_ACCOUNT),
    ...clusterGrant(input, {
      part,
      role: NODE_AGENT_ACCOUNT,
      serviceAccount: NODE_AGENT_ACCOUNT,
      rules: [
        { apiGroups: [""], resources: ["pods", "namespaces"], verbs: READ },
        // Its own, when it ends: whether the DaemonSet still wants an agent there. RBAC cannot say "own".
        { apiGroups: [""], resources: ["nodes"], verbs: ["get"] },
        // Annotations and the condition go through the sub-resource: the agent cannot change what a pod runs.
        { apiGroups: [""], resources: ["pods/status"], verbs: ["patch"] },
        { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
        { apiGroups: ["security.istio.io"], resources: ["peerauthentications"], verbs: READ },
      ],
    }),
    ...namespaceGrant(input, {
      part,
      role: NODE_AGENT_ACCOUNT,
      serviceAccount: NODE_AGENT_ACCOUNT,
      rules: [
        // When it ends it must know whether it is replaced or removed.
        { apiGroups: ["apps"], resources: ["daemonsets"], resourceNames: [NODE_AGENT], verbs: ["get"] },
        // It names the namespace of the policies that hold for the whole mesh.
        { apiGroups: [""], resources: ["configmaps"], resourceNames: [MESH_CONFIG_MAP], verbs: READ },
      ],
    }),
    daemonSet(input),
  ];
}

/** Which pods are captured; the control plane, which signs their certificates, is given the same. */
export function enrolmentEnvironment(values: InstallValues): readonly (readonly [string, string | undefined])[] {
  const selectors = values["cni.ambient.enablementSelectors"];
  const own = values["cni.env"];
  return [
    ["EXCLUDE_NAMESPACES", own.EXCLUDE_NAMESPACES ?? values["cni.excludeNamespaces"].join(",")],
    [
      "AMBIENT_ENABLEMENT_SELECTOR",
      own.AMBIENT_ENABLEMENT_SELECTOR ?? (selectors.length === 0 ? undefined : JSON.stringify(selectors)),
    ],
  ];
}

function daemonSet(input: ManifestInput): KubeObject {
  const { values, namespace } = input;
  const labels = { "k8s-app": NODE_AGENT, ...labelsOf(input, NODE_AGENT) };
  const host = hostFolders(values);
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: NODE_AGENT, namespace, labels },
    spec: {
      selector: { matchLabels: { "k8s-app": NODE_AGENT } },
      // Two agents of one node would fight for its sockets.
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
      template: {
        metadata: {
          labels: { ...labels, ...OUTSIDE_THE_MESH, ...values["cni.podLabels"] },
          annotations: { ...scrape(METRICS_PORT, "/metrics"), ...values["cni.podAnnotations"] },
        },
        spec: {
          serviceAccountName: NODE_AGENT_ACCOUNT,
          // To see which pod a peer on its socket is, and to reach the host's network namespace at /proc/1.
          hostPID: true,
          priorityClassName: CRITICAL,
          terminationGracePeriodSeconds: values["cni.terminationGracePeriodSeconds"],
          ...placement({ nodeSelector: { "kubernetes.io/os": "linux" } }),
          tolerations: EVERYWHERE,
          ...pullSecrets(input),
          containers: [container(input, host)],
          volumes: [
            { name: "cni-bin-dir", hostPath: { path: host.bin, type: "DirectoryOrCreate" } },
            { name: "cni-net-dir", hostPath: { path: host.conf, type: "DirectoryOrCreate" } },
            { name: "cni-socket-dir", hostPath: { path: RUN_FOLDER, type: "DirectoryOrCreate" } },
            { name: "cni-netns-dir", hostPath: { path: host.netns, type: "DirectoryOrCreate" } },
            { name: "cni-ztunnel-sock-dir", hostPath: { path: ZDS_FOLDER, type: "DirectoryOrCreate" } },
            { name: "cgroups", hostPath: { path: CGROUPS, type: "Directory" } },
            { name: "tmp", emptyDir: {} },
          ],
        },
      },
    },
  };
}

function container(input: ManifestInput, host: HostFolders): object {
  const { values, namespace } = input;
  const confName = values["cni.cniConfFileName"];
  return {
    name: "install-cni",
    image: image(input, "node-agent"),
    ...pullPolicy(input),
    ports: [
      { name: "metrics", containerPort: METRICS_PORT, protocol: "TCP" },
      { name: "readiness", containerPort: HEALTH_PORT, protocol: "TCP" },
    ],
    livenessProbe: {
      httpGet: { path: "/healthz", port: HEALTH_PORT },
      // A busy node may starve the agent for a while; killing it then would only make more work.
      periodSeconds: 10,
      failureThreshold: 6,
      timeoutSeconds: 5,
    },
    readinessProbe: { httpGet: { path: "/readyz", port: HEALTH_PORT }, periodSeconds: 2 },
    resources: values["cni.resources"],
    securityContext: {
      // The kernel's rule for SYS_ADMIN.
      allowPrivilegeEscalation: true,
      privileged: false,
      capabilities: {
        drop: ["ALL"],
        // Rules and routes; raw sockets of the proof; entering namespaces; /proc of other processes; CNI folders that
        // distributions give to another user than root.
        add: ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE"],
      },
      // The runtime's profile forbids looking at processes outside of the container.
      appArmorProfile: { type: "Unconfined" },
      readOnlyRootFilesystem: true,
      runAsUser: 0,
      runAsGroup: 0,
      runAsNonRoot: false,
      seccompProfile: { type: "RuntimeDefault" },
    },
    env: environment(
      [
        ["NODE_NAME", podField("spec.nodeName")],
        ["POD_NAME", podField("metadata.name")],
        ["POD_NAMESPACE", podField("metadata.namespace")],
        ["SYSTEM_NAMESPACE", namespace],
        ["AMBIENT_DNS_CAPTURE", String(values["cni.ambient.dnsCapture"])],
        ["AMBIENT_IPV6", String(values["cni.ambient.ipv6"])],
        ["CNI_CONF_NAME", confName === "" ? undefined : confName],
        ...enrolmentEnvironment(values),
        ["LOG_LEVEL", values["cni.logging.level"] || values["global.logging.level"]],
        ["LOG_FORMAT", values["global.logAsJson"] ? "json" : undefined],
        ["MOUNTED_CNI_BIN_DIR", MOUNTED_BIN],
        ["HOST_CNI_BIN_DIR", host.bin],
        ["MOUNTED_CNI_NET_DIR", MOUNTED_CONF],
        ["CNI_AGENT_RUN_DIR", RUN_FOLDER],
        ["CNI_NETNS_DIR", host.netns],
        ["ZTUNNEL_UDS_ADDRESS", `${ZDS_FOLDER}/ztunnel.sock`],
      ],
      values["cni.env"],
    ),
    volumeMounts: [
      { name: "cni-bin-dir", mountPath: MOUNTED_BIN },
      { name: "cni-net-dir", mountPath: MOUNTED_CONF },
      { name: "cni-socket-dir", mountPath: RUN_FOLDER },
      // At the host's path: the plugin names a namespace by it. Those that come later must appear too.
      { name: "cni-netns-dir", mountPath: host.netns, mountPropagation: "HostToContainer" },
      { name: "cni-ztunnel-sock-dir", mountPath: ZDS_FOLDER },
      // The probe exemption is for the kubelet's own control group: nft looks for its name here.
      { name: "cgroups", mountPath: CGROUPS, readOnly: true },
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
}

function hostFolders(values: InstallValues): HostFolders {
  const platform = { ...COMMON, ...PLATFORMS[values["global.platform"]] };
  return {
    bin: values["cni.cniBinDir"] || platform.bin,
    conf: values["cni.cniConfDir"] || platform.conf,
    netns: values["cni.cniNetnsDir"] || platform.netns,
  };
}
