import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "@tulle/base";
import { StoreError } from "../contract.ts";
import type { KubeConnection } from "./kube-connection.ts";

/** Where kubelet mounts the pod's own service account. */
export const SERVICE_ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Whether this process runs in a pod that may speak to the API server. */
export function isInCluster(env: Environment): boolean {
  return (env.KUBERNETES_SERVICE_HOST ?? "") !== "";
}

/** The connection of a pod, from KUBERNETES_SERVICE_HOST and _PORT and its service account. Throws StoreError INVALID. */
export function inClusterConnection(env: Environment, folder = SERVICE_ACCOUNT_FOLDER): KubeConnection {
  const host = env.KUBERNETES_SERVICE_HOST ?? "";
  const port = env.KUBERNETES_SERVICE_PORT ?? "443";
  if (host === "" || !/^\d{1,5}$/.test(port)) {
    throw new StoreError("INVALID", "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must name the API server");
  }
  const address = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  const token = new TokenFile(join(folder, "token"));
  return {
    server: `https://${address}:${port}`,
    source: "service account of the pod",
    namespace: readOptional(join(folder, "namespace"))?.trim() || "default",
    tls: { ca: readFile(join(folder, "ca.crt")) },
    authorization: (renew) => token.authorization(renew),
  };
}

/** A bearer token in a file that somebody else replaces now and then: read again when the file has changed. */
export class TokenFile {
  readonly #path: string;
  #stamp = "";
  #token = "";

  constructor(path: string) {
    this.#path = path;
  }

  /** Rejects with StoreError UNAVAILABLE when the file cannot be read and was never read before. */
  async authorization(renew: boolean): Promise<string> {
    try {
      const { mtimeMs, ino } = statSync(this.#path);
      const stamp = `${ino}/${mtimeMs}`;
      if (renew || stamp !== this.#stamp) {
        const token = readFileSync(this.#path, "utf8").trim();
        if (token !== "") {
          this.#token = token;
          this.#stamp = stamp;
        }
      }
    } catch (error) {
      // kubelet replaces the file by moving links: the token of a moment ago is still good.
      if (this.#token === "") throw new StoreError("UNAVAILABLE", `cannot read the token: ${messageOf(error)}`, error);
    }
    if (this.#token === "") throw new StoreError("UNAVAILABLE", `the token file ${this.#path} is empty`);
    return `Bearer ${this.#token}`;
  }
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new StoreError("INVALID", `cannot read ${path}: is the service account mounted? ${messageOf(error)}`, error);
  }
}

function readOptional(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Only the default namespace of the pod: nothing here depends on it.
    return undefined;
  }
}
