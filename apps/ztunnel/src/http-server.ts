import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { formatSocketAddress, type Log, MeshError, messageOf, type SocketAddress } from "@tulle/base";

/** A small HTTP/1.1 server of the main thread: admin, metrics, readiness. */
export interface HttpServerOptions {
  /** For messages: `admin`. */
  readonly name: string;
  /** All are bound, or none. Port 0 picks one. */
  readonly addresses: readonly SocketAddress[];
  /** A rejection becomes a 500 and a line in the log. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => Promise<void> | void;
  readonly log: Log;
}

/** A client that has not sent its request header within this is cut off (spec: l4-ztunnel §9.1). */
const HEADER_TIMEOUT_MS = 2000;
/** How exactly that time is kept. */
const CHECK_INTERVAL_MS = 500;
/** The header of a request; longer ones are answered with 431. */
const MAX_HEADER_BYTES = 8192;
/** No endpoint takes a body: this much time is for what comes anyway. */
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5000;
/** Per address; a scraper and a few people are enough. */
const MAX_CONNECTIONS = 128;

export class HttpServer {
  readonly addresses: readonly SocketAddress[];
  readonly #servers: readonly Server[];

  private constructor(servers: readonly Server[]) {
    this.#servers = servers;
    this.addresses = servers.map(boundAddress);
  }

  /** Throws MeshError `BIND_FAILED`; then nothing is bound. */
  static async start(options: HttpServerOptions): Promise<HttpServer> {
    const servers: Server[] = [];
    try {
      for (const address of options.addresses) servers.push(await listen(address, options));
    } catch (error) {
      await Promise.all(servers.map(closeServer));
      throw error;
    }
    return new HttpServer(servers);
  }

  /** Ends open connections too. Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#servers.map(closeServer));
  }
}

/** Answers with a text; `headers` are added to the content type. */
export function respondText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", ...headers });
  response.end(text);
}

/** Writes pieces as fast as the client takes them; stops when the client has gone. */
export async function respondPieces(response: ServerResponse, pieces: Iterable<string>): Promise<void> {
  for (const piece of pieces) {
    if (response.destroyed) return;
    if (!response.write(piece)) await drained(response);
  }
  response.end();
}

/** Resolves when there is room again, or nobody is left to write to. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

async function listen(address: SocketAddress, options: HttpServerOptions): Promise<Server> {
  const { name, log } = options;
  const server = createServer(
    {
      headersTimeout: HEADER_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    (request, response) => {
      response.on("error", () => {
        // The client has gone: there is nobody to tell.
      });
      // A body is read and thrown away, so that the connection can serve the next request.
      request.resume();
      Promise.resolve()
        .then(() => options.handle(request, response))
        .catch((error: unknown) => {
          log.error(`${name} request failed`, { path: request.url ?? "", error: messageOf(error) });
          if (response.headersSent) response.destroy();
          else respondText(response, 500, `${messageOf(error)}\n`);
        });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.listen({ host: address.ip, port: address.port, ipv6Only: address.ip === "::1" });
  try {
    await once(server, "listening");
  } catch (error) {
    throw new MeshError(`failed to bind to address ${formatSocketAddress(address)}: ${messageOf(error)}`, {
      code: "BIND_FAILED",
      side: "internal",
      cause: error,
    });
  }
  server.on("error", (error) => log.error(`${name} server failed`, { error: messageOf(error) }));
  return server;
}

function boundAddress(server: Server): SocketAddress {
  const bound = server.address();
  if (bound === null || typeof bound === "string") return { ip: "", port: 0 };
  return { ip: bound.address, port: bound.port };
}

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}
