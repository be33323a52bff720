import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { sleep } from "@tulle/base";
import { until } from "@tulle/lab";
import { echo, ENROL, MESH_NAMESPACE, Mesh, Prometheus, type TestCluster } from "../src/index.ts";

const NAMESPACE = "measured";
const REQUESTS = 20;
/** Scrapes are two seconds apart. */
const SCRAPED = { timeoutMs: 30_000, intervalMs: 500 };
/** Two scrapes: a number that is the same after it has what happened before. */
const STILL_MS = 5000;
const REPORTERS = ["source", "destination"] as const;

/** Every component as one pod a line: of which port, and one series that nobody else has. */
const COMPONENTS = [
  { labels: 'app="istiod"', pods: 1, port: 15014, series: "pilot_xds" },
  { labels: 'app="ztunnel"', pods: 2, port: 15020, series: "workload_manager_active_proxy_count" },
  { labels: 'k8s_app="istio-cni-node"', pods: 2, port: 15014, series: "ztunnel_connected" },
] as const;

/** A Prometheus that knows nothing of Tulle. */
export function suite(cluster: () => TestCluster): void {
  describe("a stock Prometheus", () => {
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } };
    const apps = [
      ...echo({ name: "asker", namespace: NAMESPACE, node: 1 }),
      ...echo({ name: "answerer", namespace: NAMESPACE, node: 2 }),
    ];
    let prometheus: Prometheus;

    before(async () => {
      await new Mesh(cluster()).install();
      await cluster().apply(namespace);
      await cluster().kubectl(["label", "namespace", NAMESPACE, ENROL]);
      await cluster().apply(apps);
      for (const app of ["asker", "answerer"]) await cluster().rollout(`deploy/${app}`, NAMESPACE);
      prometheus = await Prometheus.start(cluster());
    });

    after(async () => {
      await prometheus?.[Symbol.asyncDispose]();
      await cluster().kubectl(["delete", "namespace", NAMESPACE, "--wait=false"]);
    });

    for (const { labels, pods, port, series } of COMPONENTS) {
      test(`scrapes each pod of ${labels} by its annotations`, async () => {
        const selector = `{job="kubernetes-pods",namespace="${MESH_NAMESPACE}",${labels}}`;
        const up = await until(
          async () => {
            const found = await prometheus.query(`up${selector} == 1`);
            return found.length === pods && found;
          },
          { what: `${pods} targets up`, ...SCRAPED },
        );
        for (const one of up) assert.match(one.labels.instance ?? "", new RegExp(`:${port}$`));
        await until(async () => (await prometheus.query(`${series}${selector}`)).length > 0, {
          what: series,
          ...SCRAPED,
        });
        // A page that it took only in part would not be up; samples that it dropped are told here.
        const taken = () => prometheus.query(`scrape_samples_scraped${selector} > 10`);
        await until(async () => (await taken()).length === pods, { what: `samples of ${pods} pods`, ...SCRAPED });
      });
    }

    test("answers who opened how many connections to whom, by identities, and by both sides the same", async () => {
      const [asker] = await cluster().pods("app=asker", NAMESPACE);
      assert.ok(asker !== undefined);
      await new Mesh(cluster()).waitForCaptured(`${NAMESPACE}/${asker.metadata.name}`);
      const query = (reporter: string) =>
        `sum by (source_principal, destination_principal) (istio_tcp_connections_opened_total{reporter="${reporter}",` +
        `destination_service_name="answerer",connection_security_policy="mutual_tls"})`;
      await cluster().waitForEndpoint({
        from: `${NAMESPACE}/${asker.metadata.name}`,
        url: "http://answerer/",
        answer: /^200 /,
      });
      const counted = async (reporter: string) => (await prometheus.query(query(reporter)))[0];
      // Each ztunnel is scraped at its own time.
      const start = new Map<string, number>();
      for (const reporter of REPORTERS) {
        const still = await until(
          async () => {
            const before = await counted(reporter);
            if (before === undefined) return undefined;
            await sleep(STILL_MS);
            return (await counted(reporter))?.value === before.value && before;
          },
          { what: `all of the first connections by ${reporter}`, ...SCRAPED, timeoutMs: 60_000 },
        );
        start.set(reporter, still.value);
      }
      await cluster().execDirectly(asker, ["/labbox", "get", ...Array(REQUESTS).fill("http://answerer/")]);
      for (const [reporter, value] of start) {
        const result = await until(
          async () => {
            const now = await counted(reporter);
            return now !== undefined && now.value >= value + REQUESTS && now;
          },
          { what: `${REQUESTS} connections more by ${reporter}`, ...SCRAPED },
        );
        assert.deepEqual(result.labels, {
          source_principal: `spiffe://cluster.local/ns/${NAMESPACE}/sa/asker`,
          destination_principal: `spiffe://cluster.local/ns/${NAMESPACE}/sa/answerer`,
        });
        assert.equal(result.value, value + REQUESTS);
      }
    });
  });
}
