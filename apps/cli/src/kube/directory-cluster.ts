import { openStore, type Store } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import type { Cluster } from "./cluster.ts";

/**
 * The objects of a mesh without an API server: TULLE_STORE=directory and TULLE_STORE_STATE, as its processes have them. The
 * user's own directory is left to those processes; what they read of it is in the state folder. Rejects with MeshError or
 * StoreError.
 */
export async function openDirectoryCluster(env: Readonly<Record<string, string | undefined>>): Promise<Cluster> {
  const { TULLE_STORE_DIRECTORY: _theirs, ...own } = env;
  const store: Store = await openStore({ component: "tulle", env: own });
  const name = `state folder ${env["TULLE_STORE_STATE"] ?? ""}`;
  return {
    name,
    namespace: "default",
    store,
    serverVersion: () => Promise.reject(notHere("has no API server")),
    dial: ({ namespace, name: pod }) => Promise.reject(notHere(`cannot reach ${namespace}/${pod}`)),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };

  function notHere(what: string): CliError {
    return new CliError(`${name} ${what}`, "this command needs a cluster: unset TULLE_STORE");
  }
}
