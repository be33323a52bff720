import { canonicalIp } from "@tulle/base";
import { nodeMetadata, type XdsPeer } from "@tulle/xds";

/** What a client's Node says of itself (control-plane.md §3.1). Claims, all of it. */
export interface ProxyNode {
  readonly type: (typeof TYPES)[number];
  readonly ip: string;
  readonly pod: string;
  readonly podNamespace: string;
  /** Of the proxy: metadata NAMESPACE, else the first label of the domain. */
  readonly namespace: string;
  /** Metadata; "" when it is not said. */
  readonly serviceAccount: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly version: string;
}

const TYPES = ["ztunnel", "waypoint", "sidecar", "router", "agentgateway"] as const;
/** Names of Kubernetes with dots, domains: nothing longer is one. */
const MAX_ID_LENGTH = 1024;

/** `type~ip~pod.namespace~domain` and the metadata; a reason when it is not one. */
export function parseProxyNode(node: XdsPeer["node"]): ProxyNode | string {
  if (node.id.length > MAX_ID_LENGTH) return `the node id is longer than ${MAX_ID_LENGTH} characters`;
  const parts = node.id.split("~");
  const [typeText, idIp = "", podText = "", domain = ""] = parts;
  if (parts.length !== 4) return "the node id is not type~ip~pod.namespace~domain";
  const type = TYPES.find((known) => known === typeText);
  if (type === undefined) return `the node type is not one of ${TYPES.join(", ")}`;
  const ip = [...nodeMetadata(node, "INSTANCE_IPS").split(","), idIp].find((one) => canonicalIp(one) !== undefined);
  if (ip === undefined) return "there is no IP address in INSTANCE_IPS or the node id";
  const dot = podText.lastIndexOf(".");
  if (dot <= 0 || dot === podText.length - 1) return "the third part of the node id is not pod.namespace";
  const podNamespace = podText.slice(dot + 1);
  const namespace = nodeMetadata(node, "NAMESPACE") || (domain.split(".", 1)[0] ?? "");
  if (namespace === "") return "neither NAMESPACE nor the node id's domain names a namespace";
  return {
    type,
    ip,
    pod: podText.slice(0, dot),
    podNamespace,
    namespace,
    serviceAccount: nodeMetadata(node, "SERVICE_ACCOUNT"),
    nodeName: nodeMetadata(node, "NODE_NAME"),
    clusterId: nodeMetadata(node, "CLUSTER_ID"),
    version: nodeMetadata(node, "ISTIO_VERSION"),
  };
}
