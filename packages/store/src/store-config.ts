import { isAbsolute } from "node:path";
import { MeshError } from "@tulle/base";
import { type Environment, isInCluster } from "./kube/in-cluster.ts";

/** Which store a process uses. */
export type StoreConfig =
  | { readonly type: "kubernetes"; readonly access: "in-cluster" }
  | {
      readonly type: "kubernetes";
      readonly access: "kubeconfig";
      /** Default: KUBECONFIG, or `~/.kube/config`. */
      readonly files?: readonly string[];
      /** Default: the current context. */
      readonly context?: string;
    }
  | {
      readonly type: "directory";
      /** The user's YAML: only read. Undefined: nothing but what is in the state folder. */
      readonly directory: string | undefined;
      /** What Tulle writes, 0700. */
      readonly state: string;
    };

/**
 * From the environment: TULLE_STORE (`kubernetes`, the default, or `directory`), TULLE_STORE_DIRECTORY and
 * TULLE_STORE_STATE (absolute paths). On Kubernetes KUBECONFIG counts first, then the pod's service account, then
 * `~/.kube/config`. Throws MeshError CONFIG_INVALID.
 */
export function parseStoreConfig(env: Environment): StoreConfig {
  const type = env.TULLE_STORE || "kubernetes";
  if (type === "kubernetes") {
    const named = (env.KUBECONFIG ?? "") !== "";
    return { type, access: !named && isInCluster(env) ? "in-cluster" : "kubeconfig" };
  }
  if (type !== "directory") throw invalid(`TULLE_STORE is "${type}": it must be kubernetes or directory`);
  const state = env.TULLE_STORE_STATE ?? "";
  const directory = env.TULLE_STORE_DIRECTORY || undefined;
  if (state === "") throw invalid("TULLE_STORE=directory needs TULLE_STORE_STATE, the folder for what Tulle writes");
  for (const [name, path] of Object.entries({ TULLE_STORE_STATE: state, TULLE_STORE_DIRECTORY: directory ?? "/" })) {
    if (!isAbsolute(path)) throw invalid(`${name} is "${path}": it must be an absolute path`);
  }
  return { type, directory, state };
}

function invalid(message: string): MeshError {
  return new MeshError(message, { code: "CONFIG_INVALID", side: "internal" });
}
