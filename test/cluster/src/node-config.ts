import { LABBOX_IMAGE } from "./artifacts.ts";
import { cgroupName, nodeAddress, nodeName, PLAN, podNetwork } from "./settings.ts";

/** What the files of a node's configuration say: file name → content. JSON where YAML is asked for is YAML. */
export function nodeFiles(
  cluster: string,
  index: number,
  pki: string,
  resolver: string,
): Readonly<Record<string, string>> {
  return {
    "10-bridge.conflist": json(cniConfig(index)),
    "containerd.toml": containerdConfig(),
    "kubelet.yaml": json(kubeletConfig(cluster, index, pki, resolver)),
    "kube-proxy.yaml": json(proxyConfig(pki)),
    // Pods resolve through the cluster's DNS; what that does not know does not exist.
    "resolv.conf": "",
  };
}

function cniConfig(index: number) {
  const pods = podNetwork(index);
  return {
    cniVersion: "1.0.0",
    name: "pods",
    plugins: [
      {
        type: "bridge",
        bridge: PLAN.podBridge,
        isGateway: true,
        hairpinMode: true,
        ipam: {
          type: "host-local",
          ranges: [[{ subnet: pods.v4 }], [{ subnet: pods.v6 }]],
          routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}

function containerdConfig(): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
[${cri}]
  sandbox_image = "${LABBOX_IMAGE}"
  # Hosts without CAP_SYS_RESOURCE refuse a negative oom_score_adj.
  restrict_oom_score_adj = true
[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[${cri}.cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
`;
}

function kubeletConfig(cluster: string, index: number, pki: string, resolver: string) {
  const name = nodeName(index);
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: nodeAddress(index).v4,
    authentication: {
      x509: { clientCAFile: `${pki}/ca.crt` },
      anonymous: { enabled: false },
      webhook: { enabled: true },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: `${pki}/${name}.crt`,
    tlsPrivateKeyFile: `${pki}/${name}.key`,
    containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
    failCgroupV1: false,
    failSwapOn: false,
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${cgroupName(cluster, index)}`,
    clusterDNS: [PLAN.dns.v4],
    clusterDomain: "cluster.local",
    resolvConf: resolver,
    volumePluginDir: "/var/lib/kubelet/plugins-exec",
    // Renewed at a quarter of it; the controller manager's grace period is 20 s.
    nodeLeaseDurationSeconds: 12,
    // Images come by hand: what is collected does not come back.
    imageGCHighThresholdPercent: 100,
    evictionHard: { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
  };
}

function proxyConfig(pki: string) {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "nftables",
    clientConnection: { kubeconfig: `${pki}/kube-proxy.conf` },
    clusterCIDR: `${PLAN.pods.v4},${PLAN.pods.v6}`,
    // Limits of the whole machine: not ours to set.
    conntrack: { maxPerCore: 0, min: 0 },
  };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 1)}\n`;
}
