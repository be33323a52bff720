import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CONTROL_PLANE_PORT, DEFAULT_CLUSTER_ID, DEFAULT_TRUST_DOMAIN, SYSTEM_NAMESPACE } from "@tulle/base";
import type { LabNamespace } from "@tulle/lab";
import { type AddressPlan, meshCidrs, type NodePlan } from "../objects/addresses.ts";

/** How the programs of the mesh are started: in which namespace, with which rights, told what. */

export interface Launch {
  readonly command: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

export const CONTROL_PLANE_ACCOUNT = "istiod";
export const AGENT_ACCOUNT = "istio-cni";
export const ZTUNNEL_ACCOUNT = "ztunnel";

/** Files of one node's programs. */
export interface NodeFiles {
  /** 0700. */
  readonly folder: string;
  readonly token: string;
  readonly zdsSocket: string;
  /** Folder of the socket that is asked about new pods. */
  readonly agentFolder: string;
}

/** What ztunnel needs of root: entering namespaces and marking sockets; reading files that belong to whoever runs the mesh. */
const ZTUNNEL_CAPABILITIES = ["sys_admin", "net_admin", "net_raw", "dac_read_search"];
/** The control plane only reads and writes files of root's, and its own program wherever that lies. */
const CONTROL_PLANE_CAPABILITIES = ["dac_read_search"];

/** Shows its own resolv.conf and hosts, for ztunnel forwards names to the resolver that it finds there. */
const WITH_OWN_ETC = `
set -e
for f in resolv.conf hosts; do [ ! -e /etc/$f ] || mount -o bind "$1/$f" /etc/$f; done
shift
exec "$@"
`;

export function nodeFiles(folder: string): NodeFiles {
  return {
    folder,
    token: join(folder, "token"),
    zdsSocket: join(folder, "zds", "ztunnel.sock"),
    agentFolder: join(folder, "agent"),
  };
}

export function launchControlPlane(options: {
  readonly namespace: LabNamespace;
  readonly podName: string;
  readonly plan: AddressPlan;
  readonly clusterDomain: string;
  readonly state: string;
  readonly jwks: string;
  readonly version: string;
}): Launch {
  const { namespace, podName, plan, clusterDomain, state, jwks, version } = options;
  const { v4, v6 } = plan.controlPlane;
  return {
    command: [...enter(namespace), ...withOnly(CONTROL_PLANE_CAPABILITIES), process.execPath, mainOf("control-plane")],
    env: {
      ...common(),
      ...storeEnvironment(state),
      POD_NAME: podName,
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      CLUSTER_ID: DEFAULT_CLUSTER_ID,
      DOMAIN_SUFFIX: clusterDomain,
      TULLE_VERSION: version,
      TULLE_LISTEN_HOST: v6 === undefined ? "0.0.0.0" : "::",
      TULLE_TOKEN_JWKS: jwks,
      CA_TRUSTED_NODE_ACCOUNTS: `${SYSTEM_NAMESPACE}/${ZTUNNEL_ACCOUNT}`,
      ISTIOD_CUSTOM_HOST: [v4, v6].filter((ip) => ip !== undefined).join(","),
      // An authority of one's own can be put there, as the Secret `cacerts` on a cluster.
      ROOT_CA_DIR: join(state, "cacerts"),
      TERMINATION_DRAIN_DURATION: "1s",
    },
  };
}

export function launchAgent(options: {
  readonly namespace: LabNamespace;
  readonly node: NodePlan;
  readonly files: NodeFiles;
  readonly netnsFolder: string;
  /** Path of the host's network namespace. */
  readonly hostNamespace: string;
  readonly state: string;
}): Launch {
  const { namespace, node, files, netnsFolder, hostNamespace, state } = options;
  return {
    command: [...enter(namespace), "setpriv", "--pdeathsig", "KILL", process.execPath, mainOf("node-agent")],
    env: {
      ...common(),
      ...storeEnvironment(state),
      NODE_NAME: node.name,
      SYSTEM_NAMESPACE,
      ZTUNNEL_UDS_ADDRESS: files.zdsSocket,
      CNI_AGENT_RUN_DIR: files.agentFolder,
      CNI_NETNS_DIR: netnsFolder,
      TULLE_HOST_NETNS: hostNamespace,
      AMBIENT_IPV6: String(node.address.v6 !== undefined),
    },
  };
}

export function launchZtunnel(options: {
  readonly namespace: LabNamespace;
  readonly node: NodePlan;
  readonly podName: string;
  readonly files: NodeFiles;
  readonly plan: AddressPlan;
  readonly clusterDomain: string;
  readonly roots: string;
}): Launch {
  const { namespace, node, podName, files, plan, clusterDomain, roots } = options;
  const controlPlane = controlPlaneUrl(plan);
  return {
    command: [
      ...enter(namespace),
      ...["unshare", "--mount", "--propagation", "private", "sh", "-c", WITH_OWN_ETC, "sh", files.folder],
      ...withOnly(ZTUNNEL_CAPABILITIES),
      ...[process.execPath, mainOf("ztunnel")],
    ],
    env: {
      ...common(),
      PROXY_MODE: "shared",
      NODE_NAME: node.name,
      INSTANCE_IP: node.address.v4,
      POD_NAME: podName,
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      SERVICE_ACCOUNT: ZTUNNEL_ACCOUNT,
      CLUSTER_ID: DEFAULT_CLUSTER_ID,
      CLUSTER_DOMAIN: clusterDomain,
      XDS_ADDRESS: controlPlane,
      CA_ADDRESS: controlPlane,
      XDS_ROOT_CA: roots,
      CA_ROOT_CA: roots,
      AUTH_TOKEN: files.token,
      INPOD_UDS: files.zdsSocket,
      MESH_CIDRS: meshCidrs(plan).join(","),
      IPV6_ENABLED: String(node.address.v6 !== undefined),
      TERMINATION_GRACE_PERIOD_SECONDS: "1",
      TRUST_DOMAIN: DEFAULT_TRUST_DOMAIN,
    },
  };
}

/** Of xDS and CA. */
export function controlPlaneUrl(plan: AddressPlan): string {
  return `https://${plan.controlPlane.v4}:${CONTROL_PLANE_PORT}`;
}

function enter(namespace: LabNamespace): string[] {
  return ["nsenter", `--net=${namespace.path}`];
}

function withOnly(capabilities: readonly string[]): string[] {
  const only = `-all,${capabilities.map((name) => `+${name}`).join(",")}`;
  return ["setpriv", "--bounding-set", only, "--inh-caps=-all", "--no-new-privs", "--pdeathsig", "KILL"];
}

function common(): NodeJS.ProcessEnv {
  const cache = process.env.NODE_COMPILE_CACHE;
  return {
    PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
    NODE_NO_WARNINGS: "1",
    ...(cache !== undefined && existsSync(cache) ? { NODE_COMPILE_CACHE: cache } : {}),
  };
}

/** No directory: the user's YAML is read, checked and taken over by one process only, which is this one. */
function storeEnvironment(state: string): NodeJS.ProcessEnv {
  return { TULLE_STORE: "directory", TULLE_STORE_STATE: state };
}

function mainOf(app: "control-plane" | "node-agent" | "ztunnel"): string {
  return fileURLToPath(new URL(`../../../${app}/src/main.ts`, import.meta.url));
}
