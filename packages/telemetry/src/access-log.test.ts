import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatAccess } from "./access-log.ts";
import type { AccessRecord } from "./contract.ts";

const TIME = "2027-03-01T08:09:10.000123Z";

const hbone: AccessRecord = {
  event: "complete",
  direction: "outbound",
  sourceAddress: "10.1.0.7:40110",
  sourceWorkload: "shop-5f",
  sourceNamespace: "shop",
  sourceIdentity: "spiffe://cluster.local/ns/shop/sa/shop",
  sourceCluster: "Kubernetes",
  destinationAddress: "10.1.1.3:15008",
  hboneAddress: "10.1.1.3:9080",
  destinationService: "stock.shop.svc.cluster.local",
  destinationWorkload: "stock-1",
  destinationNamespace: "shop",
  destinationIdentity: "spiffe://cluster.local/ns/shop/sa/stock",
  destinationCluster: "Kubernetes",
  bytesFromClient: 70,
  bytesFromServer: 900,
  durationMs: 12.9,
};

describe("an access log line", () => {
  it("has the fields of ztunnel's in their order", () => {
    assert.equal(
      formatAccess("plain", TIME, hbone),
      "2027-03-01T08:09:10.000123Z\tinfo\taccess\tconnection complete\t" +
        'src.addr=10.1.0.7:40110 src.workload="shop-5f" src.namespace="shop" ' +
        'src.identity="spiffe://cluster.local/ns/shop/sa/shop" src.cluster="Kubernetes" ' +
        "dst.addr=10.1.1.3:15008 dst.hbone_addr=10.1.1.3:9080 " +
        'dst.service="stock.shop.svc.cluster.local" dst.workload="stock-1" dst.namespace="shop" ' +
        'dst.identity="spiffe://cluster.local/ns/shop/sa/stock" dst.cluster="Kubernetes" ' +
        'direction="outbound" bytes_sent=70 bytes_recv=900 duration="12ms"\n',
    );
  });

  it("is one JSON object with the same fields", () => {
    const text = formatAccess("json", TIME, hbone);
    assert.ok(text.endsWith("}\n"));
    const line = JSON.parse(text);
    assert.deepEqual(Object.keys(line).slice(0, 5), ["level", "time", "scope", "message", "src.addr"]);
    assert.equal(line.scope, "access");
    assert.equal(line["dst.hbone_addr"], "10.1.1.3:9080");
    assert.equal(line.bytes_sent, 70);
    assert.equal(line.duration, "12ms");
    assert.equal("error" in line, false);
  });

  it("counts sent and received as the local pod sees them", () => {
    const inbound = formatAccess("plain", TIME, { ...hbone, direction: "inbound" });
    assert.match(inbound, /direction="inbound" bytes_sent=900 bytes_recv=70 /);
  });

  it("leaves unknown values out", () => {
    const line = formatAccess("plain", TIME, {
      event: "failed",
      direction: "inbound",
      sourceAddress: "10.1.0.7:40110",
      destinationAddress: "[fd00::3]:15008",
      error: "tls error: no certificate",
    });
    assert.equal(
      line,
      `${TIME}\twarn\taccess\tconnection failed\tsrc.addr=10.1.0.7:40110 dst.addr=[fd00::3]:15008 direction="inbound" error="tls error: no certificate"\n`,
    );
  });

  it("is an error when the connection failed, and debug when it was opened", () => {
    assert.match(
      formatAccess("plain", TIME, { ...hbone, error: "h2 failed: reset" }),
      /\terror\taccess\tconnection complete\t/,
    );
    assert.match(formatAccess("plain", TIME, { ...hbone, event: "opened" }), /\tdebug\taccess\tconnection opened\t/);
  });

  it("cannot be forged by what a peer sends", () => {
    const forged: AccessRecord = {
      ...hbone,
      hboneAddress: 'a:1 direction="inbound"\n2027',
      sourceWorkload: 'x" bytes_sent=0\n\u001b[2J',
    };
    const plain = formatAccess("plain", TIME, forged);
    assert.equal(plain.indexOf("\n"), plain.length - 1);
    assert.ok(plain.includes(String.raw`src.workload="x\" bytes_sent=0\n\u{1b}[2J"`));
    assert.ok(plain.includes(String.raw`dst.hbone_addr="a:1 direction=\"inbound\"\n2027"`));
    const json = formatAccess("json", TIME, forged);
    assert.equal(json.indexOf("\n"), json.length - 1);
    assert.equal(JSON.parse(json)["src.workload"], forged.sourceWorkload);
  });
});
