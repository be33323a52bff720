import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS, type Sample } from "../src/index.ts";
import { type App, hosts, NAMESPACE, type Scene } from "./scene.ts";

/** From which addresses of hosts are taken that have none of their own. */
const OWN_V4 = /^240\.240\.\d+\.\d+$/;
const OWN_V6 = /^2001:2:/;
/** A client may have remembered for twenty seconds that there is no such name; the rest is for a busy machine. */
const DNS_LIMIT = { timeoutMs: 60_000, intervalMs: 100 };
const HTTP_PORT = { number: 80, name: "http", protocol: "HTTP", targetPort: ECHO_PORTS.http };
/** On the pods of the app that is not in the mesh. */
const OUTSIDE = { app: "uncaptured" };

/** Names that ztunnel knows, and hosts that users describe by ServiceEntry and WorkloadEntry. */
export function nameTests(apps: () => Scene): void {
  const lookUp = (app: App, name: string) => apps().lookUp(app, name);
  const sum = (samples: readonly Sample[]) => samples.reduce((total, { value }) => total + value, 0);
  const answered = async () => {
    const samples = await apps().ztunnelMetrics("istio_dns_requests_total");
    return sum(samples.filter(({ labels }) => labels.source_canonical_service === "client"));
  };
  const reach = (host: string, app: App = "uncaptured") =>
    until(async () => (await apps().get("client", `http://${host}/`)).includes(`"pod":"${app}-`), {
      what: `${host} to lead to ${app}`,
      ...DNS_LIMIT,
    });

  describe("names", () => {
    test("of services are answered by ztunnel, short and long, in both families", async () => {
      const expected = await apps().clusterIPs("captured");
      const before = await answered();
      for (const name of ["captured", `captured.${NAMESPACE}`, `captured.${NAMESPACE}.svc.cluster.local`]) {
        assert.deepEqual(new Set(await lookUp("client", name)), new Set(expected), name);
      }
      assert.ok((await answered()) > before);
    });

    test("of headless services are those of the pods", async () => {
      const expected = apps()
        .pods("captured")
        .flatMap(({ status }) => (status.podIPs ?? []).map(({ ip }) => ip));
      assert.deepEqual(new Set(await lookUp("client", "captured-headless")), new Set(expected));
      const answer = await apps().ask("client", `http://captured-headless:${ECHO_PORTS.http}/`);
      assert.match(answer.pod, /^captured-/);
    });

    test("that ztunnel does not know are asked of the cluster's own DNS, whose answer counts", async () => {
      const asked = async () => sum(await apps().ztunnelMetrics("istio_dns_upstream_requests_total"));
      const before = await asked();
      await assert.rejects(lookUp("client", `nobody.${NAMESPACE}.svc.cluster.local`), /no such host/);
      assert.ok((await asked()) > before);
    });
  });

  describe("ServiceEntry", () => {
    const entry = (name: string, spec: object) => ({
      apiVersion: "networking.istio.io/v1",
      kind: "ServiceEntry",
      metadata: { name, namespace: NAMESPACE },
      spec: { hosts: [`${name}.example.com`], ports: [HTTP_PORT], ...spec },
    });
    const workloadEntry = (name: string, address: string, labels: Readonly<Record<string, string>>) => ({
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: { name, namespace: NAMESPACE, labels },
      spec: { address },
    });
    const outside = () => hosts(apps().pod("uncaptured"))[0] ?? assert.fail();
    const named = () => apps().namedEndpoint;
    const made: object[] = [];
    const apply = async (...objects: object[]) => {
      made.push(...objects);
      await apps().apply(...objects);
    };

    after(async () => {
      if (made.length > 0) await apps().delete(...made);
    });

    for (const location of ["MESH_INTERNAL", "MESH_EXTERNAL"]) {
      const suffix = location === "MESH_INTERNAL" ? "in" : "ex";
      test(`of ${location} reaches an endpoint that is written in it`, async () => {
        const name = `inlined-${suffix}`;
        await apply(entry(name, { location, resolution: "STATIC", endpoints: [{ address: outside() }] }));
        await reach(`${name}.example.com`);
      });

      test(`of ${location} reaches a WorkloadEntry that it selects`, async () => {
        const name = `selecting-${suffix}`;
        const labels = { entry: name };
        await apply(
          workloadEntry(name, outside(), labels),
          entry(name, { location, resolution: "STATIC", workloadSelector: { labels } }),
        );
        await reach(`${name}.example.com`);
      });
    }

    test("reaches pods that it selects, whether or not they are in the mesh", async () => {
      await apply(
        entry("pods-outside", {
          location: "MESH_INTERNAL",
          resolution: "STATIC",
          workloadSelector: { labels: OUTSIDE },
        }),
        entry("pods-inside", {
          location: "MESH_INTERNAL",
          resolution: "STATIC",
          workloadSelector: { labels: { app: "stranger" } },
        }),
      );
      await reach("pods-outside.example.com");
      await reach("pods-inside.example.com", "stranger");
    });

    test("reaches endpoints that are names, looked up by ztunnel", async () => {
      await apply(
        entry("by-name", { location: "MESH_EXTERNAL", resolution: "DNS", endpoints: [{ address: named() }] }),
        workloadEntry("named", named(), { entry: "named" }),
        entry("named", {
          location: "MESH_EXTERNAL",
          resolution: "DNS",
          workloadSelector: { labels: { entry: "named" } },
        }),
      );
      await reach("by-name.example.com");
      await reach("named.example.com");
    });

    test("gives its host addresses of its own, which only pods of the mesh see, also after it was made anew", async () => {
      const object = entry("churned", {
        location: "MESH_EXTERNAL",
        resolution: "DNS",
        endpoints: [{ address: named() }],
      });
      for (const time of ["first", "second"]) {
        await apply(object);
        const found = await until(() => lookUp("client", "churned.example.com"), {
          what: `the host to resolve the ${time} time`,
          ...DNS_LIMIT,
        });
        assert.ok(found.some((ip) => OWN_V4.test(ip)) && found.some((ip) => OWN_V6.test(ip)), found.join());
        await reach("churned.example.com");
        await assert.rejects(lookUp("uncaptured", "churned.example.com"));
        await apps().delete(object);
        await until(
          () =>
            lookUp("client", "churned.example.com").then(
              () => false,
              () => true,
            ),
          {
            what: "the host to be gone",
            ...DNS_LIMIT,
          },
        );
      }
    });
  });
}
