import type { RequestOptions } from "node:https";
import { messageOf, sleep } from "@tulle/base";
import { KubeConfig } from "@kubernetes/client-node";
import { StoreError } from "../contract.ts";
import type { KubeConnection, KubeTls } from "./kube-connection.ts";
import type { KubeconfigUser } from "./kubeconfig.ts";

/** Some ask the user to log in with a browser. */
const PLUGIN_TIMEOUT_MS = 120_000;

/**
 * Credentials from `exec` and `auth-provider` of a kubeconfig, by the client library that knows their many forms. A client
 * certificate that a plugin gives is taken once; tokens are renewed when they expire or are refused.
 */
export async function pluginConnection(
  connection: Omit<KubeConnection, "authorization">,
  user: KubeconfigUser,
  userName: string,
  timeoutMs = PLUGIN_TIMEOUT_MS,
): Promise<KubeConnection> {
  let config = load(connection, user, userName);
  let options = await credentials(config, connection.source, timeoutMs);
  const text = (value: unknown) => (typeof value === "string" || Buffer.isBuffer(value) ? value : undefined);
  const [cert, key] = [text(options.cert), text(options.key)];
  const tls: KubeTls = { ...connection.tls, ...(cert && key ? { cert, key } : {}) };
  return {
    ...connection,
    tls,
    authorization: async (renew) => {
      // The library keeps a token until it expires, refused or not.
      if (renew) config = load(connection, user, userName);
      options = await credentials(config, connection.source, timeoutMs);
      const headers = options.headers as Readonly<Record<string, unknown>> | undefined;
      return typeof headers?.Authorization === "string" ? headers.Authorization : undefined;
    },
  };
}

function load(
  { server, tls }: Pick<KubeConnection, "server" | "tls">,
  user: KubeconfigUser,
  userName: string,
): KubeConfig {
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: "cluster", server, skipTLSVerify: tls.rejectUnauthorized === false }],
    users: [{ name: userName, exec: withExecInfo(user.exec), authProvider: user["auth-provider"] }],
    contexts: [{ name: "context", cluster: "cluster", user: userName }],
    currentContext: "context",
  });
  return config;
}

/** Plugins learn from KUBERNETES_EXEC_INFO which version of the answer is wanted; the library does not tell them. */
function withExecInfo(exec: KubeconfigUser["exec"]): KubeconfigUser["exec"] {
  if (exec === undefined) return undefined;
  const info = { apiVersion: exec.apiVersion, kind: "ExecCredential", spec: { interactive: false } };
  const env = Array.isArray(exec.env) ? (exec.env as unknown[]) : [];
  return { ...exec, env: [...env, { name: "KUBERNETES_EXEC_INFO", value: JSON.stringify(info) }] };
}

async function credentials(config: KubeConfig, source: string, timeoutMs: number): Promise<RequestOptions> {
  const options: RequestOptions = {};
  const over = new AbortController();
  const late = sleep(timeoutMs, over.signal).then(() => {
    if (!over.signal.aborted) throw new Error(`no answer within ${timeoutMs / 1000} s`);
  });
  try {
    await Promise.race([config.applyToHTTPSOptions(options), late]);
  } catch (error) {
    throw new StoreError("UNAVAILABLE", `${source}: the credential plugin failed: ${messageOf(error)}`, error);
  } finally {
    over.abort();
  }
  return options;
}
