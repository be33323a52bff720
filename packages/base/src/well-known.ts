/**
 * Names that Istio, Kubernetes and Tulle agree on (spec: control-plane §1, §9). Keys of `istio.io` are contracts of
 * upstream; keys of `tulle.dev` are our own.
 */

/** Release namespace, unless installed elsewhere. */
export const SYSTEM_NAMESPACE = "istio-system";
/** Set and read by both sides of xDS, CA and webhooks unless configured. */
export const DEFAULT_CLUSTER_ID = "Kubernetes";
export const DEFAULT_TRUST_DOMAIN = "cluster.local";

/** Pod or Namespace: `ambient` or `none`; the pod's own wins. Read by node agent and control plane. */
export const DATAPLANE_MODE_LABEL = "istio.io/dataplane-mode";
/**
 * Pod: `enabled` (captured, ztunnel serves it). Written by the node agent. Istio's agent also writes `pending` (rules are
 * there, ztunnel is not); ours never does (docs/life-of-a-pod.md, Proof), and everybody takes it for "not captured".
 */
export const REDIRECTION_ANNOTATION = "ambient.istio.io/redirection";
/** Pod: boolean; only outbound traffic is captured. */
export const BYPASS_INBOUND_ANNOTATION = "ambient.istio.io/bypass-inbound-capture";
/** Pod: boolean; overrides the mesh-wide DNS capture. */
export const DNS_CAPTURE_ANNOTATION = "ambient.istio.io/dns-capture";
/** Pod: comma list of interfaces whose incoming TCP is treated as outbound. */
export const VIRTUAL_INTERFACES_ANNOTATION = "istio.io/reroute-virtual-interfaces";
/** Pod: there is a sidecar; ambient leaves it alone. */
export const SIDECAR_STATUS_ANNOTATION = "sidecar.istio.io/status";

/** Pod: boot id of the node on which the pod was enrolled; another one means that the rules are gone. */
export const BOOT_ID_ANNOTATION = "ambient.tulle.dev/boot-id";
/**
 * Pod that leaves the mesh: the agent takes the redirection annotation away and sets this to a fresh id. Once every
 * connected ztunnel has acknowledged a state without HBONE for the pod, the control plane answers with the same id in
 * `LEFT_ANNOTATION`. The agent takes both away when the pod has left.
 */
export const LEAVING_ANNOTATION = "ambient.tulle.dev/leaving";
export const LEFT_ANNOTATION = "ambient.tulle.dev/left";
/** Pod condition, written by the node agent: whether the pod is proven to be captured, and if not, why. */
export const CAPTURED_CONDITION = "ambient.tulle.dev/Captured";
/** Service, ServiceEntry, WorkloadEntry, Pod or Namespace: `true` lets traffic pass while the waypoint that it names does not exist. */
export const WAYPOINT_OPTIONAL_ANNOTATION = "ambient.tulle.dev/waypoint-optional";

/** On every object of an installation: the namespace it is installed in, and the version of what was installed. */
export const INSTALLATION_LABEL = "tulle.dev/installation";
export const VERSION_LABEL = "app.kubernetes.io/version";

/** Pod of a process of the local mesh: its process id. Node agents know ztunnel by it where pods are no containers. */
export const PID_ANNOTATION = "tulle.dev/pid";
/** The local mesh NAME has what it runs with in `RUN/NAME` (gone when it ends) and its objects in `STATE/NAME`. */
export const LOCAL_RUN_FOLDER = "/run/tulle";
export const LOCAL_STATE_FOLDER = "/var/lib/tulle";

/** ConfigMap with the mesh's roots, in every namespace; key `root-cert.pem`. */
export const ROOT_CERT_CONFIG_MAP = "istio-ca-root-cert";
export const ROOT_CERT_KEY = "root-cert.pem";
/** ConfigMap with MeshConfig, in the system namespace; key `mesh`. */
export const MESH_CONFIG_MAP = "istio";
export const MESH_CONFIG_KEY = "mesh";
/** Audience of the projected tokens with which proxies speak to the control plane. */
export const TOKEN_AUDIENCE = "istio-ca";

/** Control plane: xDS and CA over TLS; health and debug over HTTP; metrics, version and debug over HTTP. */
export const CONTROL_PLANE_PORT = 15012;
export const CONTROL_PLANE_HTTP_PORT = 8080;
export const CONTROL_PLANE_MONITORING_PORT = 15014;
