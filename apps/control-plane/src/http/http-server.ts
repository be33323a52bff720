import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type Log, MeshError, messageOf } from "@tulle/base";

/** A small HTTP/1.1 server: health, metrics, debug. */
export interface HttpServerOptions {
  /** For messages. */
  readonly name: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** A rejection becomes a 500 and a line in the log. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => Promise<void> | void;
  readonly log: Log;
}

export interface HttpServer {
  readonly port: number;
  /** Ends open connections too. */
  close(): Promise<void>;
}

const HEADER_TIMEOUT_MS = 2_000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5_000;
/** A token has about a kilobyte. */
const MAX_HEADER_BYTES = 32_768;
/** A scraper, probes and a few people. */
const MAX_CONNECTIONS = 256;

/** Rejects with MeshError `BIND_FAILED`. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { name, host, port, handle, log } = options;
  const server = createServer(
    {
      headersTimeout: HEADER_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    (request, response) => {
      // The client has gone: there is nobody to tell.
      response.on("error", () => undefined);
      request.resume();
      // Tools put a path that begins with a slash behind another one.
      request.url = request.url?.replace(/^\/{2,}/, "/");
      Promise.resolve()
        .then(() => handle(request, response))
        .catch((error: unknown) => {
          log.error(`${name} request failed`, { path: request.url?.slice(0, 200) ?? "", error: messageOf(error) });
          if (response.headersSent) response.destroy();
          else respond(response, 500, "internal error\n");
        });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.listen({ host, port });
  try {
    await once(server, "listening");
  } catch (error) {
    const text = `cannot listen on ${host} port ${port} for ${name}: ${messageOf(error)}`;
    throw new MeshError(text, { code: "BIND_FAILED", side: "internal", cause: error });
  }
  server.on("error", (error) => log.error(`${name} server failed`, { error: messageOf(error) }));
  return { port: (server.address() as AddressInfo).port, close: () => closeServer(server) };
}

export function respond(
  response: ServerResponse,
  status: number,
  text: string,
  type = "text/plain; charset=utf-8",
): void {
  response.writeHead(status, { "content-type": type, "x-content-type-options": "nosniff" });
  response.end(text);
}

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}
