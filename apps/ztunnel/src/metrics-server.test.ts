import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { after, describe, it } from "node:test";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { silentLog } from "@tulle/base";
import { chooseEncoding, startMetricsServer } from "./metrics-server.ts";

const pieces = Array.from({ length: 50 }, (_, i) => `a_total{n="${i}"} ${"1".repeat(1000)}\n`);
const text = `${pieces.join("")}# EOF\n`;
const server = await startMetricsServer({
  addresses: [{ ip: "127.0.0.1", port: 0 }],
  metricsText: () => Promise.resolve([...pieces, "# EOF\n"]),
  log: silentLog,
});
after(() => server.close());
const [address = { ip: "", port: 0 }] = server.addresses;

async function get(path: string, headers: Readonly<Record<string, string>> = {}) {
  const sent = request({ host: address.ip, port: address.port, path, headers });
  sent.end();
  const [response] = await once(sent, "response");
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode as number, headers: response.headers, body: Buffer.concat(chunks) };
}

describe("the metrics server", () => {
  it("answers on both paths and no other", async () => {
    for (const path of ["/metrics", "/stats/prometheus", "/metrics?x=1"]) {
      const { status, headers, body } = await get(path);
      assert.equal(status, 200);
      assert.equal(headers["content-type"], "text/plain; charset=utf-8");
      assert.equal(body.toString(), text);
    }
    assert.equal((await get("/")).status, 404);
  });

  it("calls the same body OpenMetrics when that is asked for", async () => {
    const { headers, body } = await get("/metrics", {
      accept: "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    });
    assert.equal(headers["content-type"], "application/openmetrics-text;charset=utf-8;version=1.0.0");
    assert.equal(body.toString(), text);
  });

  const codings = [
    ["gzip", gunzipSync],
    ["br", brotliDecompressSync],
    ["zstd", zstdDecompressSync],
  ] as const;
  for (const [name, decompress] of codings) {
    it(`compresses with ${name}`, async () => {
      const { headers, body } = await get("/metrics", { "accept-encoding": name });
      assert.equal(headers["content-encoding"], name);
      assert.ok(body.length < text.length / 5);
      assert.equal(decompress(body).toString(), text);
    });
  }

  const cases: readonly [accepted: string | undefined, encoding: string | undefined][] = [
    [undefined, undefined],
    ["", undefined],
    ["identity", undefined],
    ["gzip", "gzip"],
    ["gzip, deflate, br, zstd", "zstd"],
    ["gzip;q=1.0, br;q=0.5", "gzip"],
    ["gzip;q=0", undefined],
    ["*", "zstd"],
    ["*;q=0.1, zstd;q=0", "br"],
    ["identity;q=1, gzip;q=0.5", undefined],
    ["deflate", undefined],
    ["gzip;q=banana", undefined],
  ];
  for (const [accepted, encoding] of cases) {
    it(`chooses ${encoding} for "${accepted}"`, () => assert.equal(chooseEncoding(accepted), encoding));
  }
});
