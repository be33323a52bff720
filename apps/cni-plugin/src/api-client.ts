import { readFileSync } from "node:fs";
import type { NamespaceObject, PodObject } from "./eligibility.ts";

/** The two objects that say whether a pod is enrolled, read from the API server when there is no agent to ask. */

export type ApiAnswer =
  | { readonly kind: "found"; readonly pod: PodObject; readonly namespace: NamespaceObject }
  /** Whether the pod is enrolled cannot be told. */
  | { readonly kind: "unknown"; readonly reason: string };

export interface ApiQuestion {
  /** JSON, written by the node agent's installer; JSON is YAML too, so kubectl takes it. */
  readonly kubeconfig: string;
  readonly pod: string;
  readonly namespace: string;
  /** For both objects together. */
  readonly timeoutMs?: number;
}

interface Access {
  readonly server: string;
  readonly ca: Buffer;
  readonly token: string;
}

interface Kubeconfig {
  readonly clusters?: readonly { readonly cluster?: Readonly<Record<string, string>> }[];
  readonly users?: readonly { readonly user?: Readonly<Record<string, string>> }[];
}

/** A node whose API server is slow has time: kubelet waits, and tries again. */
const API_TIMEOUT_MS = 5000;
/** etcd holds no object above 1.5 MB. */
const MAX_OBJECT_BYTES = 4 * 1024 * 1024;

export async function askApi({
  kubeconfig,
  pod,
  namespace,
  timeoutMs = API_TIMEOUT_MS,
}: ApiQuestion): Promise<ApiAnswer> {
  let access: Access;
  try {
    access = readAccess(kubeconfig);
  } catch (error) {
    return { kind: "unknown", reason: `${kubeconfig}: ${error instanceof Error ? error.message : String(error)}` };
  }
  const signal = AbortSignal.timeout(timeoutMs);
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}`;
  try {
    const [podObject, namespaceObject] = await Promise.all([
      get(access, `${path}/pods/${encodeURIComponent(pod)}`, "Pod", signal),
      get(access, path, "Namespace", signal),
    ]);
    return { kind: "found", pod: podObject as PodObject, namespace: namespaceObject as NamespaceObject };
  } catch (error) {
    const reason = signal.aborted
      ? `no answer within ${timeoutMs / 1000} s`
      : error instanceof Error
        ? error.message
        : String(error);
    return { kind: "unknown", reason: `${access.server}: ${reason}` };
  }
}

function readAccess(file: string): Access {
  const { clusters, users } = JSON.parse(readFileSync(file, "utf8")) as Kubeconfig;
  const { server, "certificate-authority-data": ca } = clusters?.[0]?.cluster ?? {};
  const { token } = users?.[0]?.user ?? {};
  if (!server?.startsWith("https://") || !ca || !token) throw new Error("it lacks an https server, its CA or a token");
  return { server, ca: Buffer.from(ca, "base64"), token };
}

/** Rejects unless the server shows a certificate of its CA and answers 200 with an object of that kind. */
async function get({ server, ca, token }: Access, path: string, kind: string, signal: AbortSignal): Promise<unknown> {
  // Loaded only here: with an agent there is no need for it, and it takes a third of the plugin's time.
  const { request } = await import("node:https");
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
    const call = request(`${server}${path}`, { ca, headers, signal, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("error", reject);
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > MAX_OBJECT_BYTES) call.destroy(new Error(`${path} is too large`));
      });
      response.on("end", () => {
        if (response.statusCode !== 200) return reject(new Error(`GET ${path} answered ${response.statusCode}`));
        try {
          const value = JSON.parse(text) as { readonly kind?: unknown } | null;
          if (value?.kind !== kind) throw new Error("another kind");
          resolve(value);
        } catch {
          reject(new Error(`GET ${path} answered something that is no ${kind}`));
        }
      });
    });
    call.on("error", reject);
    call.end();
  });
}
