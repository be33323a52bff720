import type { IncomingMessage, ServerResponse } from "node:http";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Log, SocketAddress } from "@tulle/base";
import type { LogFilter } from "@tulle/telemetry";
import { HttpServer, respondPieces, respondText } from "../http-server.ts";
import { configDump, type DumpSources } from "./config-dump.ts";
import { dashboard } from "./dashboard.ts";
import { refusal } from "./guard.ts";
import { handleLogging, type LogFilterHolder } from "./logging.ts";
import { prettyJson } from "./pretty-json.ts";
import type { Profiler } from "./profiler.ts";

/** The admin port, 15000 on localhost (spec: l4-ztunnel §9.1). */
export interface AdminServerOptions {
  readonly addresses: readonly SocketAddress[];
  readonly dump: DumpSources;
  readonly logs: LogFilterHolder;
  /** What `/logging?reset` goes back to. Default: ztunnel's default. */
  readonly initialFilter?: LogFilter;
  readonly profiler: Profiler;
  /** An explanation that is ready to print. */
  readonly explain: (source: string, destination: string) => object;
  /** Begins the graceful end; called once per request. */
  readonly shutdown: () => void;
  readonly log: Log;
}

/** Dumps that are being written at a time: each holds a copy of the mesh as objects. */
const MAX_DUMPS = 4;
const PROFILE_SECONDS = { fallback: 10, min: 1, max: 300 };
const PROFILE_FREQUENCY = { fallback: 100, min: 1, max: 1000 };

export function startAdminServer(options: AdminServerOptions): Promise<HttpServer> {
  const admin = new Admin(options);
  return HttpServer.start({
    name: "admin",
    addresses: options.addresses,
    log: options.log,
    handle: (request, response) => admin.handle(request, response),
  });
}

class Admin {
  readonly #options: AdminServerOptions;
  #dumps = 0;

  constructor(options: AdminServerOptions) {
    this.#options = options;
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader("x-content-type-options", "nosniff");
    const refused = refusal(request);
    if (refused !== undefined) {
      this.#options.log.warn("admin request refused", { reason: refused });
      respondText(response, 403, `${refused}\n`);
      return;
    }
    // The guard has seen to it that this is a path.
    const url = new URL(`http://localhost${request.url}`);
    switch (url.pathname) {
      case "/":
        respondHtml(response, dashboard(this.#options.dump.version.version));
        return;
      case "/config_dump":
        return this.#configDump(response);
      case "/explain":
        return this.#explain(url.searchParams, response);
      case "/logging": {
        const { logs, initialFilter } = this.#options;
        const answer = handleLogging(request.method, url.searchParams, logs, initialFilter);
        respondText(response, answer.status, answer.text);
        return;
      }
      case "/quitquitquit":
        this.#quit(request, response);
        return;
      case "/debug/pprof/profile":
        return this.#cpuProfile(url.searchParams, response);
      case "/debug/pprof/heap":
        return this.#heapProfile(response);
      case "/debug/pprof/heap/profiling":
        return this.#heapSampling(url.searchParams, response);
      default:
        respondText(response, 404, "not found\n");
    }
  }

  async #configDump(response: ServerResponse): Promise<void> {
    if (this.#dumps >= MAX_DUMPS) {
      respondText(response, 503, `${MAX_DUMPS} dumps are being written already; try again later\n`);
      return;
    }
    this.#dumps++;
    try {
      await respondJson(response, await configDump(this.#options.dump));
    } finally {
      this.#dumps--;
    }
  }

  async #explain(query: URLSearchParams, response: ServerResponse): Promise<void> {
    const source = query.get("src");
    const destination = query.get("dst");
    if (source === null || destination === null) {
      respondText(
        response,
        400,
        "usage: /explain?src=<namespace/pod, address or uid>&dst=<address:port or name:port>\n",
      );
      return;
    }
    await respondJson(response, this.#options.explain(source, destination));
  }

  #quit(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== "POST") {
      respondText(response, 405, "Invalid HTTP method\n", { allow: "POST" });
      return;
    }
    this.#options.log.info("shutdown requested through the admin port");
    response.once("close", () => this.#options.shutdown());
    respondText(response, 200, "shutdown now\n", { connection: "close" });
  }

  async #cpuProfile(query: URLSearchParams, response: ServerResponse): Promise<void> {
    const seconds = numberOf(query, "seconds", PROFILE_SECONDS);
    const frequency = numberOf(query, "frequency", PROFILE_FREQUENCY);
    if (seconds === undefined || frequency === undefined) {
      respondText(response, 400, "seconds must be 1–300, frequency 1–1000\n");
      return;
    }
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const profile = await this.#options.profiler.cpu(seconds, frequency, gone.signal);
    if (profile === undefined) respondText(response, 503, "a CPU profile is being taken already\n");
    else await respondProfile(response, profile);
  }

  async #heapProfile(response: ServerResponse): Promise<void> {
    const { profiler } = this.#options;
    const profile = await profiler.stopHeap();
    if (profile === undefined) {
      respondText(response, 500, "heap sampling is off; switch it on with /debug/pprof/heap/profiling?activate=true\n");
      return;
    }
    // A profile can only be had by ending the sampling; it goes on with a new one.
    await profiler.startHeap();
    await respondProfile(response, profile);
  }

  async #heapSampling(query: URLSearchParams, response: ServerResponse): Promise<void> {
    const { profiler } = this.#options;
    const activate = query.get("activate");
    if (activate !== null && activate !== "true" && activate !== "false") {
      respondText(response, 400, "activate must be true or false\n");
      return;
    }
    if (activate === "true") await profiler.startHeap();
    if (activate === "false") await profiler.stopHeap();
    respondText(response, 200, `heap profiling is ${profiler.heapActive ? "active" : "inactive"}\n`);
  }
}

async function respondJson(response: ServerResponse, value: object): Promise<void> {
  response.writeHead(200, { "content-type": "application/json" });
  await respondPieces(response, prettyJson(value));
}

function respondHtml(response: ServerResponse, html: string): void {
  response.writeHead(200, {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
  });
  response.end(html);
}

async function respondProfile(response: ServerResponse, profile: Uint8Array): Promise<void> {
  const bytes = await promisify(gzip)(profile);
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-disposition": 'attachment; filename="profile.pb.gz"',
    "content-length": bytes.length,
  });
  response.end(bytes);
}

/** undefined: not a whole number in the range. */
function numberOf(
  query: URLSearchParams,
  name: string,
  { fallback, min, max }: { readonly fallback: number; readonly min: number; readonly max: number },
): number | undefined {
  const text = query.get(name);
  if (text === null) return fallback;
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}
