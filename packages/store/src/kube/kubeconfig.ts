import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { messageOf } from "@tulle/base";
import { StoreError } from "../contract.ts";
import { type Environment, TokenFile } from "./in-cluster.ts";
import type { KubeConnection, KubeTls } from "./kube-connection.ts";

export interface KubeconfigOptions {
  /** Files, first wins. Default: KUBECONFIG, or `~/.kube/config`. */
  readonly files?: readonly string[];
  /** Default: the `current-context` of the first file that has one. */
  readonly context?: string;
}

interface NamedCluster {
  readonly folder: string;
  readonly server?: string;
  readonly "certificate-authority"?: string;
  readonly "certificate-authority-data"?: string;
  readonly "insecure-skip-tls-verify"?: boolean;
  readonly "tls-server-name"?: string;
  readonly "proxy-url"?: string;
}

export interface KubeconfigUser {
  readonly folder: string;
  readonly "client-certificate"?: string;
  readonly "client-certificate-data"?: string;
  readonly "client-key"?: string;
  readonly "client-key-data"?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly password?: string;
  readonly as?: string;
  readonly exec?: Readonly<Record<string, unknown>>;
  readonly "auth-provider"?: unknown;
}

interface NamedContext {
  readonly cluster?: string;
  readonly user?: string;
  readonly namespace?: string;
}

interface Merged {
  readonly clusters: Map<string, NamedCluster>;
  readonly users: Map<string, KubeconfigUser>;
  readonly contexts: Map<string, NamedContext>;
  currentContext: string;
  readonly read: string[];
}

/** Hosts to which a kubeconfig may speak without TLS: `kubectl proxy`. */
const LOOPBACK = /^http:\/\/(localhost|127(\.\d+){3}|\[::1\])(:\d+)?(\/|$)/;

export function kubeconfigFiles(env: Environment): readonly string[] {
  const listed = (env.KUBECONFIG ?? "").split(delimiter).filter((path) => path !== "");
  return listed.length > 0 ? listed : [join(env.HOME ?? homedir(), ".kube", "config")];
}

/**
 * The connection that a kubeconfig describes, merged from several files as kubectl does. Users with `exec` or
 * `auth-provider` are handed to @kubernetes/client-node, which is loaded only then. Rejects with StoreError INVALID.
 */
export async function kubeconfigConnection(env: Environment, options: KubeconfigOptions = {}): Promise<KubeConnection> {
  const files = options.files ?? kubeconfigFiles(env);
  const merged = await readFiles(files);
  const contextName = options.context ?? merged.currentContext;
  const source = `kubeconfig ${merged.read.join(", ")}, context ${contextName || "(none)"}`;
  const fail = (text: string) => new StoreError("INVALID", `${source}: ${text}`);
  if (contextName === "") throw fail("there is no current-context; choose one with `kubectl config use-context`");
  const context = merged.contexts.get(contextName);
  if (context === undefined) {
    throw fail(`there is no such context; there are ${[...merged.contexts.keys()].join(", ") || "none"}`);
  }
  const cluster = merged.clusters.get(context.cluster ?? "");
  if (cluster?.server === undefined) throw fail(`cluster ${context.cluster ?? ""} is missing, or has no server`);
  const user = merged.users.get(context.user ?? "") ?? { folder: cluster.folder };
  const server = cluster.server.replace(/\/+$/, "");
  if (!server.startsWith("https://") && !LOOPBACK.test(server)) throw fail(`${server} must begin with https://`);
  if ((cluster["proxy-url"] ?? "") !== "") throw fail("proxy-url is not supported: reach the API server directly");
  if (user.as !== undefined) throw fail("impersonation (as) is not supported");
  const tls: KubeTls = {
    ...some("ca", bytes(cluster, "certificate-authority", fail)),
    ...some("cert", bytes(user, "client-certificate", fail)),
    ...some("key", bytes(user, "client-key", fail)),
    ...some("servername", cluster["tls-server-name"]),
    ...(cluster["insecure-skip-tls-verify"] === true ? { rejectUnauthorized: false } : {}),
  };
  const connection = { server, source, namespace: context.namespace ?? "default", tls };
  if (user.exec !== undefined || user["auth-provider"] !== undefined) {
    const { pluginConnection } = await import("./kubeconfig-plugin.ts");
    return pluginConnection(connection, user, context.user ?? "");
  }
  return { ...connection, authorization: authorizationOf(user) };
}

function authorizationOf(user: KubeconfigUser): KubeConnection["authorization"] {
  // As kubectl has it: a token in the file itself counts less than a token file.
  if (user.tokenFile !== undefined) {
    const file = new TokenFile(resolve(user.folder, user.tokenFile));
    return (renew) => file.authorization(renew);
  }
  let fixed: string | undefined;
  if (user.token !== undefined) fixed = `Bearer ${user.token}`;
  else if (user.username !== undefined) {
    fixed = `Basic ${Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64")}`;
  }
  return async () => fixed;
}

async function readFiles(files: readonly string[]): Promise<Merged> {
  const merged: Merged = {
    clusters: new Map(),
    users: new Map(),
    contexts: new Map(),
    currentContext: "",
    read: [],
  };
  for (const file of files) {
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (error) {
      // One of several files may be missing, as with kubectl.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw new StoreError("INVALID", `cannot read kubeconfig ${file}: ${messageOf(error)}`, error);
    }
    add(merged, file, await parse(file, text));
  }
  if (merged.read.length === 0) {
    const hint = "set KUBECONFIG to the file that kubectl uses";
    throw new StoreError("INVALID", `there is no kubeconfig at ${files.join(", ")}: ${hint}`);
  }
  return merged;
}

function add(merged: Merged, file: string, value: Readonly<Record<string, unknown>>): void {
  const folder = dirname(resolve(file));
  const named = (list: string, entry: string, into: Map<string, unknown>) => {
    for (const item of Array.isArray(value[list]) ? (value[list] as Record<string, unknown>[]) : []) {
      const content = item[entry];
      if (typeof item.name !== "string" || into.has(item.name)) continue;
      into.set(item.name, { ...(typeof content === "object" ? content : {}), folder });
    }
  };
  named("clusters", "cluster", merged.clusters);
  named("users", "user", merged.users);
  named("contexts", "context", merged.contexts);
  const current = value["current-context"];
  if (merged.currentContext === "" && typeof current === "string") merged.currentContext = current;
  merged.read.push(file);
}

async function parse(file: string, text: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    // JSON is common and needs no library.
    const value: unknown = text.trimStart().startsWith("{") ? JSON.parse(text) : (await import("yaml")).parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    throw new StoreError("INVALID", `kubeconfig ${file}: ${messageOf(error)}`, error);
  }
  throw new StoreError("INVALID", `kubeconfig ${file} is empty`);
}

/** Inline data, or a file beside the kubeconfig. */
function bytes(
  from: NamedCluster | KubeconfigUser,
  field: string,
  fail: (text: string) => StoreError,
): Buffer | undefined {
  const fields = from as unknown as Readonly<Record<string, unknown>>;
  const inline = fields[`${field}-data`];
  if (typeof inline === "string" && inline !== "") return Buffer.from(inline, "base64");
  const path = fields[field];
  if (typeof path !== "string" || path === "") return undefined;
  try {
    return readFileSync(resolve(from.folder, path));
  } catch (error) {
    throw fail(`cannot read ${field}: ${messageOf(error)}`);
  }
}

function some<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return (value === undefined ? {} : { [key]: value }) as Partial<Record<K, V>>;
}
