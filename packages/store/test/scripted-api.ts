import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { KubeConnection } from "@tulle/store";

export interface ScriptedApi extends AsyncDisposable {
  readonly connection: KubeConnection;
  /** `GET /path?query` of each request, in order. */
  readonly requests: readonly string[];
}

export type Answer = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** An HTTP server on loopback that answers as a test says: for what a real API server does not do on demand. */
export async function startScriptedApi(answer: Answer): Promise<ScriptedApi> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (text: string) => {
      body += text;
    });
    request.on("end", () => answer(request, response, body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    requests,
    connection: {
      server: `http://127.0.0.1:${port}`,
      source: "test",
      namespace: "default",
      tls: {},
      authorization: async () => undefined,
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function sendJson(response: ServerResponse, status: number, value: unknown, headers = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

export function sendStatus(response: ServerResponse, code: number, reason: string, headers = {}): void {
  sendJson(response, code, { kind: "Status", status: "Failure", code, reason, message: reason }, headers);
}

export function page(names: readonly string[], resourceVersion: string, next = ""): unknown {
  const items = names.map((name) => ({ metadata: { namespace: "default", name, uid: name, resourceVersion: "1" } }));
  return { kind: "ConfigMapList", metadata: { resourceVersion, continue: next }, items };
}
