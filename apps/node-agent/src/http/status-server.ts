import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type Log, MeshError, messageOf } from "@tulle/base";

/** Readiness and metrics over HTTP (spec: control-plane §7.1). */

export interface StatusServerOptions {
  /** Port 0 picks one. */
  readonly port: number;
  /** Answers by path: status and text, made when asked for. */
  readonly pages: Readonly<Record<string, () => { readonly status: number; readonly text: string }>>;
  readonly log: Log;
}

/** Probes and scrapers; more are refused. */
const MAX_CONNECTIONS = 64;
const TIMEOUT_MS = 5000;
const MAX_HEADER_BYTES = 8192;

export class StatusServer implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Throws MeshError BIND_FAILED. */
  static async start(options: StatusServerOptions): Promise<StatusServer> {
    const { port, pages, log } = options;
    const server = createServer(
      { headersTimeout: TIMEOUT_MS, requestTimeout: TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES },
      listener(pages),
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.listen({ port });
    try {
      await once(server, "listening");
    } catch (error) {
      throw new MeshError(`failed to bind to port ${port}: ${messageOf(error)}`, {
        code: "BIND_FAILED",
        side: "internal",
      });
    }
    server.on("error", (error) => log.error("a status server failed", { port, error: messageOf(error) }));
    return new StatusServer(server);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

function listener(pages: StatusServerOptions["pages"]): RequestListener {
  return (request, response) => {
    request.resume();
    response.on("error", () => {
      // The client has gone: there is nobody to tell.
    });
    const path = request.url?.split("?", 1)[0] ?? "";
    const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
    const { status, text } = page === undefined ? { status: 404, text: "not found\n" } : page();
    response.writeHead(status, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(text);
  };
}
