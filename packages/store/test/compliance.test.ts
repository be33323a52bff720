import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kubeconfigConnection, KubernetesStore } from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
import { describeStore, startKubeApiServer } from "@tulle/testkit";

describeStore("directory", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tulle-store-"));
  return {
    open: (component) => DirectoryStore.open({ directory: undefined, state: join(folder, "state"), component }),
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }),
  };
});

describeStore("kubernetes", async () => {
  const server = await startKubeApiServer();
  const connection = await kubeconfigConnection({ KUBECONFIG: server.kubeconfig });
  return {
    // Three to a page: every longer list goes through paging.
    open: async (component) => new KubernetesStore({ connection, component, pageSize: 3 }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
});
