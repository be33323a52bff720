import type { EnvironmentReader } from "./config-values.ts";

/** How ztunnel reaches istiod and the CA, and how it proves itself to them (spec: l4-ztunnel §5.4, §6, §10). */

/** Same shape as the RootSource of packages/pki. */
export type RootConfig =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "pem"; readonly pem: string }
  | { readonly kind: "system" };

/** Same shape as the TokenSource of packages/pki. */
export type TokenConfig =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "literal"; readonly token: string }
  | { readonly kind: "none" };

export interface ControlPlaneConfig {
  /** `https://host:port`. */
  readonly address: string;
  readonly roots: RootConfig;
  readonly altHostname: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

export interface XdsConfig extends ControlPlaneConfig {
  readonly node: { readonly id: string; readonly metadata: Readonly<Record<string, unknown>> };
}

export interface ControlPlaneSources {
  readonly exists: (path: string) => boolean;
}

const DEFAULT_ROOT = "./var/run/secrets/istio/root-cert.pem";
const DEFAULT_TOKEN = "./var/run/secrets/tokens/istio-token";
const CLUSTER_ADDRESS = "https://istiod.istio-system.svc:15012";
const LOCAL_ADDRESS = "https://localhost:15012";
/** What the node id says when the pod's address is not known. */
const NO_ADDRESS = "1.1.1.1";

/** undefined: XDS_ADDRESS is empty, there is no control plane. */
export function readXds(
  env: EnvironmentReader,
  sources: ControlPlaneSources,
  proxy: {
    readonly discoveryAddress: string | undefined;
    readonly metadata: Readonly<Record<string, string>>;
    readonly jsonMetadata: Readonly<Record<string, unknown>>;
  },
): XdsConfig | undefined {
  const address = readAddress(env, "XDS_ADDRESS", proxy.discoveryAddress);
  const roots = readRoots(env, sources, "XDS_ROOT_CA");
  const headers = readHeaders(env, "XDS_HEADER_");
  if (address === undefined) return undefined;
  const [name = "", namespace = ""] = [env.raw("POD_NAME"), env.raw("POD_NAMESPACE")];
  const ip = env.text("INSTANCE_IP") ?? NO_ADDRESS;
  return {
    address,
    roots,
    headers,
    altHostname: env.text("ALT_XDS_HOSTNAME"),
    node: {
      id: `ztunnel~${ip}~${name}.${namespace}~${namespace}.svc.cluster.local`,
      metadata: {
        NAME: name,
        NAMESPACE: namespace,
        INSTANCE_IPS: ip,
        NODE_NAME: env.raw("NODE_NAME") ?? "",
        ...proxy.metadata,
        ...proxy.jsonMetadata,
      },
    },
  };
}

/** undefined: CA_ADDRESS is empty, or certificates come from files. */
export function readCa(
  env: EnvironmentReader,
  sources: ControlPlaneSources,
  fromFiles: boolean,
): ControlPlaneConfig | undefined {
  const headers = readHeaders(env, "CA_HEADER_");
  const roots = readRoots(env, sources, "CA_ROOT_CA");
  if (fromFiles) {
    if (env.text("CA_ADDRESS") !== undefined) env.problem("CA_ADDRESS and TULLE_CERTIFICATES_DIR exclude each other");
    return undefined;
  }
  const address = readAddress(env, "CA_ADDRESS", undefined);
  return address === undefined ? undefined : { address, roots, headers, altHostname: env.text("ALT_CA_HOSTNAME") };
}

/** A path that exists, else the token itself; without the variable the default file, or no token at all. */
export function readToken(env: EnvironmentReader, sources: ControlPlaneSources): TokenConfig {
  const value = env.raw("AUTH_TOKEN");
  if (value === undefined) {
    return sources.exists(DEFAULT_TOKEN) ? { kind: "file", path: DEFAULT_TOKEN } : { kind: "none" };
  }
  return value !== "" && sources.exists(value) ? { kind: "file", path: value } : { kind: "literal", token: value };
}

function readAddress(env: EnvironmentReader, name: string, configured: string | undefined): string | undefined {
  const value = env.raw(name) ?? configured ?? (env.text("KUBERNETES_SERVICE_HOST") ? CLUSTER_ADDRESS : LOCAL_ADDRESS);
  if (value === "") return undefined;
  const address = value.includes("://") ? value : `https://${value}`;
  if (!URL.canParse(address) || new URL(address).hostname === "") {
    env.problem(`${name} is "${value}", but must be https://host:port`);
  } else if (new URL(address).protocol !== "https:") {
    env.problem(`${name} is "${value}", but only https is possible: tokens and keys travel there`);
  }
  return address;
}

/** A path, PEM text, or SYSTEM. A path may appear later: it is read anew for each connection. */
function readRoots(env: EnvironmentReader, sources: ControlPlaneSources, name: string): RootConfig {
  const value = env.text(name) ?? DEFAULT_ROOT;
  if (value === "SYSTEM") return { kind: "system" };
  return value.includes("-----BEGIN") && !sources.exists(value)
    ? { kind: "pem", pem: value }
    : { kind: "file", path: value };
}

/** Name of a header in lower case → value. See RFC 9110 §5.6.2 for what a name may be made of. */
function readHeaders(env: EnvironmentReader, prefix: string): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  for (const [name, value] of env.prefixed(prefix)) {
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) env.problem(`${prefix}${name}: "${name}" cannot be the name of a header`);
    else if (!/^[\t\u0020-\u007e]*$/.test(value)) env.problem(`${prefix}${name} holds characters that a header cannot`);
    else headers[name.toLowerCase()] = value;
  }
  return headers;
}
