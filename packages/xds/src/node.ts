import type { JsonObject } from "@bufbuild/protobuf";
import type { core } from "@tulle/api";

/** Who a node proxy is, for the control plane. */
export interface ProxyNodeOptions {
  /** Default `1.1.1.1`, as Istio's proxies say when they do not know. */
  readonly instanceIp?: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly nodeName: string;
  /** ISTIO_META_* (prefix taken off) and ISTIO_METAJSON_* (parsed): laid over what is set here. */
  readonly metadata?: JsonObject;
}

/** What a client sends as its `Node`. */
export interface XdsNode {
  readonly id: string;
  readonly metadata: JsonObject;
}

const UNKNOWN_IP = "1.1.1.1";

/** The node of a ztunnel (spec: l4-ztunnel §5.4). */
export function proxyNode(options: ProxyNodeOptions): XdsNode {
  const { instanceIp = UNKNOWN_IP, podName, podNamespace, nodeName, metadata = {} } = options;
  return {
    id: `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    metadata: { NAME: podName, NAMESPACE: podNamespace, INSTANCE_IPS: instanceIp, NODE_NAME: nodeName, ...metadata },
  };
}

/** The string that a node's metadata holds under a name; "" without one. */
export function nodeMetadata(node: core.Node, name: string): string {
  const value = node.metadata?.[name];
  return typeof value === "string" ? value : "";
}
