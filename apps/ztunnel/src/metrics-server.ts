import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createBrotliCompress, createGzip, createZstdCompress, constants as zlib } from "node:zlib";
import type { Log, SocketAddress } from "@tulle/base";
import { HttpServer, respondPieces, respondText } from "./http-server.ts";

/** Prometheus metrics on port 15020 (spec: l4-ztunnel §9.3). */

export interface MetricsServerOptions {
  readonly addresses: readonly SocketAddress[];
  /** The text in pieces. */
  readonly metricsText: () => Promise<Iterable<string>>;
  readonly log: Log;
}

const PATHS = ["/metrics", "/stats/prometheus"];
const OPEN_METRICS = "application/openmetrics-text";
/** The body is the same in both cases. */
const OPEN_METRICS_TYPE = `${OPEN_METRICS};charset=utf-8;version=1.0.0`;
const TEXT_TYPE = "text/plain; charset=utf-8";
/** Fast rather than small: it is done every few seconds. */
const BROTLI_QUALITY = 3;
/** In order of preference among equally welcome ones. */
const ENCODINGS = ["zstd", "br", "gzip"] as const;
type Encoding = (typeof ENCODINGS)[number];

export function startMetricsServer(options: MetricsServerOptions): Promise<HttpServer> {
  const { addresses, log, metricsText } = options;
  return HttpServer.start({
    name: "metrics",
    addresses,
    log,
    handle: async (request, response) => {
      const path = request.url?.split("?", 1)[0] ?? "";
      if (!PATHS.includes(path)) respondText(response, 404, "not found\n");
      else await respondMetrics(request, response, await metricsText());
    },
  });
}

/** What the client wants most of what we have; undefined: no compression. RFC 9110 §12.5.3. */
export function chooseEncoding(accepted: string | undefined): Encoding | undefined {
  const weights = new Map<string, number>();
  for (const part of (accepted ?? "").split(",")) {
    const [name = "", ...parameters] = part.split(";").map((one) => one.trim().toLowerCase());
    const quality = parameters.find((one) => one.startsWith("q="))?.slice(2);
    if (name !== "") weights.set(name, quality === undefined ? 1 : Number(quality));
  }
  const weightOf = (name: string) => weights.get(name) ?? (name === "identity" ? 0 : (weights.get("*") ?? 0));
  let best: Encoding | undefined;
  for (const encoding of ENCODINGS) {
    if (weightOf(encoding) > (best === undefined ? weightOf("identity") : weightOf(best))) best = encoding;
  }
  return best;
}

async function respondMetrics(request: IncomingMessage, response: ServerResponse, pieces: Iterable<string>) {
  const encoding = chooseEncoding(request.headers["accept-encoding"]);
  const openMetrics = request.headers.accept?.includes(OPEN_METRICS) === true;
  response.setHeader("content-type", openMetrics ? OPEN_METRICS_TYPE : TEXT_TYPE);
  response.setHeader("vary", "accept, accept-encoding");
  if (encoding === undefined) {
    await respondPieces(response, pieces);
    return;
  }
  response.setHeader("content-encoding", encoding);
  try {
    await pipeline(Readable.from(pieces), compressor(encoding), response);
  } catch (error) {
    // A scraper that gives up half-way is none of our business.
    if (!response.destroyed) throw error;
  }
}

function compressor(encoding: Encoding): Transform {
  switch (encoding) {
    case "zstd":
      return createZstdCompress();
    case "br":
      return createBrotliCompress({ params: { [zlib.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY } });
    case "gzip":
      return createGzip();
    default:
      return encoding satisfies never;
  }
}
