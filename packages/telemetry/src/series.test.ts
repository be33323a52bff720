import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ConnectionLabels, PeerLabels } from "./contract.ts";
import { createDataTelemetry } from "./data-telemetry.ts";
import { exposition } from "./exposition.ts";
import { LogFilter } from "./log-filter.ts";
import { MainMetrics } from "./main-metrics.ts";
import { SeriesReader } from "./series-reader.ts";
import type { SeriesTableOptions } from "./series-table.ts";
import { createThreadTelemetry } from "./thread-telemetry.ts";

const shop: PeerLabels = {
  workload: "shop",
  canonicalService: "shop",
  canonicalRevision: "v1",
  namespace: "store",
  cluster: "Kubernetes",
  region: "eu",
  zone: "",
};

const labels: ConnectionLabels = {
  reporter: "source",
  source: shop,
  sourcePrincipal: "spiffe://cluster.local/ns/store/sa/shop",
  service: { hostname: "stock.store.svc.cluster.local", namespace: "store", name: "stock" },
  destination: { ...shop, workload: "stock", canonicalService: "stock", canonicalRevision: undefined, region: "us" },
  destinationPrincipal: "spiffe://cluster.local/ns/store/sa/stock",
  security: "mutual_tls",
};

function threads(count: number, series?: SeriesTableOptions) {
  const reader = new SeriesReader();
  const made = Array.from({ length: count }, (_, thread) => {
    const memory = createThreadTelemetry({
      thread,
      format: "plain",
      control: LogFilter.default,
      ...(series && { series }),
    });
    reader.addTable(memory.series);
    return createDataTelemetry(memory);
  });
  return { made, reader, text: () => [...exposition(reader, [])].join("") };
}

/** The lines of one family, without the shared labels. */
function family(text: string, name: string): string[] {
  return text.split("\n").filter((line) => line.startsWith(name));
}

describe("connection metrics", () => {
  it("print with the labels of ztunnel in their order", () => {
    const { made, text } = threads(1);
    const open = made[0]?.connectionOpened(labels);
    open?.progress(70, 900);
    assert.equal(
      family(text(), "istio_tcp_connections_opened_total")[0],
      'istio_tcp_connections_opened_total{reporter="source",source_workload="shop",source_canonical_service="shop",' +
        'source_canonical_revision="v1",source_workload_namespace="store",' +
        'source_principal="spiffe://cluster.local/ns/store/sa/shop",source_app="shop",source_version="v1",' +
        'source_cluster="Kubernetes",destination_service="stock.store.svc.cluster.local",' +
        'destination_service_namespace="store",destination_service_name="stock",destination_workload="stock",' +
        'destination_canonical_service="stock",destination_canonical_revision="unknown",' +
        'destination_workload_namespace="store",destination_principal="spiffe://cluster.local/ns/store/sa/stock",' +
        'destination_app="stock",destination_version="unknown",destination_cluster="Kubernetes",request_protocol="tcp",' +
        'response_flags="-",connection_security_policy="mutual_tls",source_region="eu",source_zone="unknown",' +
        'destination_region="us",destination_zone="unknown"} 1',
    );
    assert.match(family(text(), "istio_tcp_received_bytes_total")[0] ?? "", / 70$/);
    assert.match(family(text(), "istio_tcp_sent_bytes_total")[0] ?? "", / 900$/);
    assert.deepEqual(family(text(), "istio_tcp_connections_closed_total"), []);
  });

  it("count bytes while the connection is open, and only once", () => {
    const { made, text } = threads(1);
    const open = made[0]?.connectionOpened(labels);
    open?.progress(10, 20);
    open?.progress(15, 20);
    open?.closed("-", 16, 21);
    open?.closed("-", 99, 99);
    open?.progress(99, 99);
    assert.match(family(text(), "istio_tcp_received_bytes_total").join(), / 16$/);
    assert.match(family(text(), "istio_tcp_sent_bytes_total").join(), / 21$/);
    assert.match(family(text(), "istio_tcp_connections_closed_total").join(), / 1$/);
    assert.deepEqual(family(text(), "istio_tcp_connections_failed_total"), []);
  });

  it("count a failure as closed and failed under its flag, the opening and the bytes under -", () => {
    const { made, text } = threads(1);
    made[0]?.connectionOpened(labels).closed("DENY", 5, 0);
    const printed = text();
    assert.match(family(printed, "istio_tcp_connections_opened_total").join(), /response_flags="-".* 1$/);
    assert.match(family(printed, "istio_tcp_received_bytes_total").join(), /response_flags="-".* 5$/);
    assert.match(family(printed, "istio_tcp_connections_closed_total").join(), /response_flags="DENY".* 1$/);
    assert.match(family(printed, "istio_tcp_connections_failed_total").join(), /response_flags="DENY".* 1$/);
  });

  it("leave region and zone out for a peer that is not known", () => {
    const { made, text } = threads(1);
    made[0]?.connectionOpened({
      reporter: "destination",
      source: undefined,
      sourcePrincipal: undefined,
      service: undefined,
      destination: shop,
      destinationPrincipal: undefined,
      security: "unknown",
    });
    const [line = ""] = family(text(), "istio_tcp_connections_opened_total");
    assert.match(line, /source_workload="unknown",source_canonical_service="unknown"/);
    assert.match(line, /connection_security_policy="unknown",destination_region="eu",destination_zone="unknown"} 1$/);
  });

  it("add up what several threads count, and show open sockets even when there are none", () => {
    const { made, text } = threads(3);
    const open = made.map((thread) => thread.connectionOpened({ ...labels }));
    made[1]?.connectionOpened({ ...labels, source: { ...shop } });
    assert.equal(family(text(), "istio_tcp_connections_opened_total").length, 1);
    assert.match(family(text(), "istio_tcp_connections_opened_total").join(), / 4$/);
    assert.deepEqual(family(text(), "istio_tcp_sockets_open"), [
      'istio_tcp_sockets_open{reporter="source"} 4',
      'istio_tcp_sockets_open{reporter="destination"} 0',
    ]);
    for (const one of open) one.closed("-", 0, 0);
    assert.equal(family(text(), "istio_tcp_sockets_open")[0], 'istio_tcp_sockets_open{reporter="source"} 1');
  });

  it("go to one overflow series when the table is full, exactly counted", () => {
    const { made, reader, text } = threads(1, { series: 40 });
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 100; i++) {
        made[0]?.connectionOpened({ ...labels, source: { ...shop, workload: `w${i}` } }).closed("CONNECT", 1, 0);
      }
    }
    const lines = family(text(), "istio_tcp_connections_opened_total");
    const overflow = lines.filter((line) => line.includes('source_workload="overflow"'));
    assert.equal(overflow.length, 1);
    assert.match(overflow[0] ?? "", /reporter="overflow".*response_flags="overflow"/);
    const sum = lines.reduce((total, line) => total + Number(line.split(" ").at(-1)), 0);
    assert.equal(sum, 200);
    const bytes = family(text(), "istio_tcp_received_bytes_total");
    assert.equal(
      bytes.reduce((total, line) => total + Number(line.split(" ").at(-1)), 0),
      200,
    );
    assert.ok((reader.overflowed()[0] ?? 0) > 0);
  });

  it("survive label values that are too long, too many or hostile", () => {
    const { made, text } = threads(1, { series: 4000, stringBytes: 20_000 });
    for (let i = 0; i < 500; i++) {
      made[0]?.connectionOpened({ ...labels, source: { ...shop, workload: `${i}${'"\\\n'.repeat(300)}` } });
    }
    const lines = family(text(), "istio_tcp_connections_opened_total");
    assert.ok(lines.some((line) => line.includes('source_workload="overflow"')));
    const [first = ""] = lines.filter((line) => line.includes('source_workload="0'));
    const value = /source_workload="((?:[^"\\]|\\.)*)"/.exec(first)?.[1] ?? "";
    assert.equal(value.replaceAll(/\\(.)/g, "x").length, 256);
    assert.equal(
      lines.reduce((total, line) => total + Number(line.split(" ").at(-1)), 0),
      500,
    );
  });
});

describe("the metrics text", () => {
  it("has help, type and unit of each family that has something to say, and ends in EOF", () => {
    const main = new MainMetrics();
    const reader = new SeriesReader();
    reader.addTable(main.memory);
    main.build("ztunnel", "unknown");
    main.xdsMessage("type.googleapis.com/istio.workload.Address", 120);
    main.xdsMessage("type.googleapis.com/istio.workload.Address", 0);
    main.xdsTerminated("Reconnect");
    main.proxies(2, 0);
    main.proxyStarted();
    assert.equal(
      [
        ...exposition(reader, [{ name: "process_open_fds", help: "Open", type: "gauge", samples: [{ value: 7 }] }]),
      ].join(""),
      `# HELP process_open_fds Open
# TYPE process_open_fds gauge
process_open_fds 7
# HELP istio_build Istio component build info.
# TYPE istio_build gauge
istio_build{component="ztunnel",tag="unknown"} 1
# HELP istio_xds_connection_terminations The total number of completed connections to xds server (unstable).
# TYPE istio_xds_connection_terminations counter
istio_xds_connection_terminations_total{reason="Reconnect"} 1
# HELP istio_xds_message Total number of messages received (unstable).
# TYPE istio_xds_message counter
istio_xds_message_total{url="type.googleapis.com/istio.workload.Address"} 2
# HELP istio_xds_message_bytes Total number of bytes received (unstable).
# TYPE istio_xds_message_bytes counter
# UNIT istio_xds_message_bytes bytes
istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"} 120
# HELP workload_manager_active_proxy_count The total number current workloads with active proxies (unstable).
# TYPE workload_manager_active_proxy_count gauge
workload_manager_active_proxy_count 2
# HELP workload_manager_pending_proxy_count The total number current workloads with pending proxies (unstable).
# TYPE workload_manager_pending_proxy_count gauge
workload_manager_pending_proxy_count 0
# HELP workload_manager_proxies_started The total number of proxies that were started (unstable).
# TYPE workload_manager_proxies_started counter
workload_manager_proxies_started_total 1
# HELP workload_manager_proxies_stopped The total number of proxies that were stopped (unstable).
# TYPE workload_manager_proxies_stopped counter
workload_manager_proxies_stopped_total 0
# EOF
`,
    );
  });

  it("prints DNS counts and a cumulative histogram", () => {
    const { made, text } = threads(1);
    const dns = made[0]?.dns({ queryType: "a", protocol: "udp", canonicalService: "shop", canonicalRevision: "v1" });
    dns?.request();
    dns?.upstreamRequest();
    for (const seconds of [0.0004, 0.05, 0.05, 9]) dns?.upstreamDuration(seconds);
    const set =
      'request_query_type="a",request_protocol="udp",source_canonical_service="shop",source_canonical_revision="v1"';
    const printed = text();
    assert.deepEqual(family(printed, "istio_dns_upstream_request_duration_seconds"), [
      `istio_dns_upstream_request_duration_seconds_sum{${set}} ${0.0004 + 0.05 + 0.05 + 9}`,
      `istio_dns_upstream_request_duration_seconds_count{${set}} 4`,
      ...[
        ["0.0005", 1],
        ["0.001", 1],
        ["0.01", 1],
        ["0.1", 3],
        ["1.0", 3],
        ["5.0", 3],
        ["+Inf", 4],
      ].map(([le, count]) => `istio_dns_upstream_request_duration_seconds_bucket{le="${le}",${set}} ${count}`),
    ]);
    assert.ok(printed.includes("# UNIT istio_dns_upstream_request_duration_seconds seconds\n"));
    assert.deepEqual(family(printed, "istio_dns_upstream_failures"), []);
  });

  it("prints Tulle's own counters, with reasons as labels", () => {
    const { made, text } = threads(2);
    made[0]?.count("connect_retries");
    made[1]?.count("connect_retries", 2);
    made[0]?.count("connections_refused:missing_policy");
    made[0]?.gauge("pool_tunnels", 3);
    made[0]?.gauge("pool_tunnels", -1);
    const printed = text();
    assert.deepEqual(family(printed, "tulle_connect_retries"), ["tulle_connect_retries_total 3"]);
    assert.deepEqual(family(printed, "tulle_connections_refused"), [
      'tulle_connections_refused_total{reason="missing_policy"} 1',
    ]);
    assert.deepEqual(family(printed, "tulle_pool_tunnels"), ["tulle_pool_tunnels 2"]);
  });

  it("counts addresses that were looked up by name", () => {
    const { made, text } = threads(1);
    made[0]?.onDemandDns(shop, "db.example.com");
    made[0]?.onDemandDns({ ...shop }, "db.example.com");
    assert.match(
      family(text(), "istio_on_demand_dns_total").join(),
      /source_cluster="Kubernetes",hostname="db.example.com"} 2$/,
    );
  });

  it("comes in pieces, so that a large one does not hold up the process", () => {
    const { made, reader } = threads(1);
    for (let i = 0; i < 300; i++) made[0]?.connectionOpened({ ...labels, source: { ...shop, workload: `w${i}` } });
    const pieces = [...exposition(reader, [])];
    assert.ok(pieces.length > 5);
    assert.ok(pieces.every((piece) => piece.length < 40_000));
    assert.ok(pieces.at(-1)?.endsWith("# EOF\n"));
  });
});
