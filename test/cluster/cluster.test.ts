import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { TestCluster } from "./src/index.ts";

/**
 * All tests that need a Kubernetes cluster, in one file because they share one cluster: the suites of `suites/`, one after
 * the other in the order of their names. What breaks the cluster comes last.
 *
 * TULLE_CLUSTER_SUITES=10,9     only suites whose name begins so
 * TULLE_CLUSTER_ATTACH=name     on a cluster that `npm run cluster -- up` made, which stays
 */
const SUITES = join(import.meta.dirname, "suites");

interface SuiteModule {
  readonly suite: (cluster: () => TestCluster) => void;
}

let running: TestCluster | undefined;

before(async () => {
  const attach = process.env.TULLE_CLUSTER_ATTACH;
  running = attach ? TestCluster.attach(attach) : await TestCluster.up();
});

after(async () => {
  await running?.down();
});

function cluster(): TestCluster {
  if (running === undefined) throw new Error("the cluster is used outside of a test");
  return running;
}

const wanted = (process.env.TULLE_CLUSTER_SUITES ?? "").split(",");
for (const name of readdirSync(SUITES).sort()) {
  if (!/^\d\d-.*\.ts$/.test(name) || !wanted.some((start) => name.startsWith(start))) continue;
  const { suite } = (await import(join(SUITES, name))) as SuiteModule;
  suite(cluster);
}
