import type { IncomingMessage, ServerResponse } from "node:http";
import type { Log, SocketAddress } from "@tulle/base";
import type { LogFilter } from "@tulle/telemetry";
import { type Profiler, respondProfiling } from "@tulle/telemetry/profiling";
import { HttpServer, respondPieces, respondText } from "../http-server.ts";
import { configDump, type DumpSources } from "./config-dump.ts";
import { dashboard } from "./dashboard.ts";
import { refusal } from "./guard.ts";
import { handleLogging, type LogFilterHolder } from "./logging.ts";
import { prettyJson } from "./pretty-json.ts";

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
      default:
        if (!(await respondProfiling(url, response, this.#options.profiler))) respondText(response, 404, "not found\n");
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
