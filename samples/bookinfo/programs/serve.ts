import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";

/** What every program of the sample shares: an HTTP server with a health check, and one JSON request to another service. */

/** Long enough for a connection that waits for its first certificate, short enough for a person who waits for the page. */
const REQUEST_TIMEOUT_MS = 3000;
/** No answer of this sample comes near it. */
const MAX_BODY_BYTES = 64 * 1024;

export type Handler = (path: string, response: ServerResponse) => void | Promise<void>;

/** Serves `GET /health` and `handler` on PORT (default 9080), over IPv4 and IPv6, until SIGTERM. */
export function serve(name: string, handler: Handler): void {
  const port = Number(process.env.PORT ?? 9080);
  const server = createServer((incoming, response) => {
    const path = pathOf(incoming);
    if (path === "/health") return sendJson(response, 200, { status: "healthy" });
    Promise.resolve(handler(path, response)).catch((error: unknown) => {
      console.error(`${name}: ${incoming.method} ${path}: ${String(error)}`);
      if (!response.headersSent) sendJson(response, 500, { error: "internal error" });
      else response.destroy();
    });
  });
  server.listen(port, "::", () => console.log(`${name} listens on port ${port}`));
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}

/**
 * GET a JSON document. Every request opens a connection of its own: a mesh balances connections, so this is what makes
 * the page show different versions of reviews. Throws an Error whose message a reader of the page can understand.
 */
export function getJson(url: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request(url, { agent: false, timeout: REQUEST_TIMEOUT_MS }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("error", reject);
      answer.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > MAX_BODY_BYTES) call.destroy(new Error("the answer is too long"));
      });
      answer.on("end", () => {
        if (answer.statusCode !== 200) return reject(new Error(`it answered ${answer.statusCode}`));
        try {
          resolve(JSON.parse(text));
        } catch {
          reject(new Error("it answered something that is not JSON"));
        }
      });
    });
    call.on("timeout", () => call.destroy(new Error(`no answer within ${REQUEST_TIMEOUT_MS / 1000} s`)));
    call.on("error", reject);
    call.end();
  });
}

function pathOf(incoming: IncomingMessage): string {
  return new URL(incoming.url ?? "/", "http://sample").pathname;
}
