import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS, MESH_NAMESPACE, parseMetrics, type Sample } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { hosts, NAMESPACE, type Scene } from "./scene.ts";

const OPENED = "istio_tcp_connections_opened_total";
/** What every sample of a connection says of its ends; the two principals come from the certificates. */
const LABELS = {
  source_workload: "client",
  source_canonical_service: "client",
  source_canonical_revision: "latest",
  source_workload_namespace: NAMESPACE,
  source_principal: `spiffe://cluster.local/ns/${NAMESPACE}/sa/client`,
  source_app: "client",
  source_version: "latest",
  source_cluster: "Kubernetes",
  destination_service: `captured.${NAMESPACE}.svc.cluster.local`,
  destination_service_namespace: NAMESPACE,
  destination_service_name: "captured",
  destination_workload: "captured",
  destination_canonical_service: "captured",
  destination_canonical_revision: "latest",
  destination_workload_namespace: NAMESPACE,
  destination_principal: `spiffe://cluster.local/ns/${NAMESPACE}/sa/captured`,
  destination_app: "captured",
  destination_version: "latest",
  destination_cluster: "Kubernetes",
  request_protocol: "tcp",
  response_flags: "-",
  connection_security_policy: "mutual_tls",
} as const;

/** What ztunnel counts, as dashboards ask for it. */
export function telemetryTests(apps: () => Applications): void {
  describe("layer 4 telemetry", () => {
    countingTests(apps);
    scrapeTests(apps);
  });
}

/** Of connections of any mesh. */
export function countingTests(apps: () => Scene): void {
  const samples = (name: string) => apps().ztunnelMetrics(name);
  const sum = (all: readonly Sample[], wanted: Readonly<Record<string, string>>) =>
    all
      .filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value))
      .reduce((total, { value }) => total + value, 0);

  test("counts each connection on both sides, with all labels of both ends, within seconds", async () => {
    const before = await samples("istio_tcp_");
    const url = `http://captured.${NAMESPACE}/?bytes=10000`;
    const count = 10;
    await apps().get("client", ...Array<string>(count).fill(url));
    for (const reporter of ["source", "destination"]) {
      const wanted = { reporter, ...LABELS };
      const rise = (all: readonly Sample[], name: string) =>
        sum(
          all.filter((one) => one.name === name),
          wanted,
        ) -
        sum(
          before.filter((one) => one.name === name),
          wanted,
        );
      const after = await until(
        async () => {
          const now = await samples("istio_tcp_");
          return rise(now, "istio_tcp_connections_closed_total") === count && now;
        },
        { what: `${count} connections of reporter ${reporter}`, intervalMs: 300 },
      );
      assert.equal(rise(after, OPENED), count);
      // From the client's side of the wire: what it received is what the server sent.
      assert.ok(rise(after, "istio_tcp_sent_bytes_total") >= count * 10_000);
      assert.ok(rise(after, "istio_tcp_received_bytes_total") > 0);
    }
  });

  test("tells plaintext from mutual TLS, and who is outside of the mesh", async () => {
    const [host] = hosts(apps().pod("captured"));
    const wanted = {
      reporter: "destination",
      source_workload: "uncaptured",
      source_principal: "unknown",
      destination_workload: "captured",
      connection_security_policy: "unknown",
    };
    const opened = async () => sum(await samples(OPENED), wanted);
    const before = await opened();
    await apps().get("uncaptured", `http://${host}:${ECHO_PORTS.http}/`);
    await until(async () => (await opened()) === before + 1, { what: "the plaintext connection", intervalMs: 300 });
  });
}

/** Where ztunnel is a pod of its own. */
function scrapeTests(apps: () => Applications): void {
  test("can be scraped from inside of the mesh by mutual TLS, as ztunnel's own identity", async () => {
    const ztunnel = await apps().mesh.ztunnel(2);
    const principal = `spiffe://cluster.local/ns/${MESH_NAMESPACE}/sa/ztunnel`;
    for (const host of hosts(ztunnel)) {
      await until(
        async () => {
          const page = await apps().get("client", `http://${host}:15020/metrics`);
          const found = parseMetrics(page.replace(/^200 /, ""));
          return found.some(
            ({ name, labels }) =>
              name === OPENED &&
              labels["destination_principal"] === principal &&
              labels["source_workload"] === "client" &&
              labels["connection_security_policy"] === "mutual_tls",
          );
        },
        { what: `the scrape at ${host} to be counted as mutual TLS`, intervalMs: 300 },
      );
    }
  });
}
