import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KUBECONFIG_NAME, SOCKET_NAME } from "./command.ts";

/** For tests: a node's run folder with an agent on its socket and an API server in its kubeconfig, or without them. */
export interface TestNode extends AsyncDisposable {
  readonly runDir: string;
  /** Bodies that the agent received. */
  readonly asked: unknown[];
  /** Paths that the API server was asked for. */
  readonly read: string[];
  /** An agent that answers so. */
  agent(status: number, text?: string): Promise<void>;
  /** A listener that does this with every connection. */
  rawAgent(onConnection: (socket: Socket) => void): Promise<void>;
  /** A socket file that nobody serves any more. */
  deadAgent(): Promise<void>;
  /** An API server with these objects by path; `silent` never answers. */
  api(
    objects: Readonly<Record<string, unknown>>,
    options?: { readonly silent?: boolean; readonly token?: string },
  ): Promise<void>;
  /** A kubeconfig of which nobody serves the address. */
  deadApi(): Promise<void>;
}

const TOKEN = "the-token";

export function createTestNode(): TestNode {
  const runDir = mkdtempSync(join(tmpdir(), "tulle-cni-"));
  const socket = join(runDir, SOCKET_NAME);
  const asked: unknown[] = [];
  const read: string[] = [];
  const servers: Server[] = [];

  const listen = (server: Server, where: string | { port: number; host: string }) =>
    new Promise<void>((resolve, reject) => {
      servers.push(server);
      server.on("error", reject);
      server.listen(where, () => resolve());
    });

  const apiServer = async (server: HttpsServer, ca: string) => {
    await listen(server, { port: 0, host: "127.0.0.1" });
    const { port } = server.address() as AddressInfo;
    const cluster = {
      server: `https://127.0.0.1:${port}`,
      "certificate-authority-data": Buffer.from(ca).toString("base64"),
    };
    writeFileSync(
      join(runDir, KUBECONFIG_NAME),
      JSON.stringify({ clusters: [{ cluster }], users: [{ user: { token: TOKEN } }] }),
    );
  };

  return {
    runDir,
    asked,
    read,
    agent(status, text = "") {
      const server = createHttpServer((request, response) => {
        let body = "";
        request.on("data", (chunk) => (body += String(chunk)));
        request.on("end", () => {
          asked.push(request.url === "/cmdadd" && request.method === "POST" ? JSON.parse(body) : request.url);
          response.writeHead(status).end(text);
        });
      });
      return listen(server, socket);
    },
    rawAgent: (onConnection) => listen(createNetServer(onConnection), socket),
    async deadAgent() {
      // A child that is killed leaves its socket file behind, as an agent does.
      const script = `require("node:net").createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, "SIGKILL"))`;
      try {
        execFileSync(process.execPath, ["-e", script], { stdio: "ignore" });
      } catch {
        // Killed, as it should be.
      }
    },
    async api(objects, { silent = false, token = TOKEN } = {}) {
      const { key, cert } = serverCertificate(runDir);
      const server = createHttpsServer({ key, cert }, (request, response) => {
        read.push(request.url ?? "");
        if (silent) return;
        const object = objects[request.url ?? ""];
        const allowed = request.headers.authorization === `Bearer ${token}`;
        if (!allowed) response.writeHead(401).end("{}");
        else response.writeHead(object === undefined ? 404 : 200).end(JSON.stringify(object ?? {}));
      });
      await apiServer(server, cert);
    },
    async deadApi() {
      const { key, cert } = serverCertificate(runDir);
      const server = createHttpsServer({ key, cert });
      await apiServer(server, cert);
      await new Promise((resolve) => server.close(resolve));
    },
    async [Symbol.asyncDispose]() {
      for (const server of servers) {
        if ("closeAllConnections" in server) (server as HttpsServer).closeAllConnections();
        if (server.listening) await new Promise((resolve) => server.close(resolve));
      }
      rmSync(runDir, { recursive: true, force: true });
    },
  };
}

function serverCertificate(folder: string): { readonly key: string; readonly cert: string } {
  const [key, cert] = [join(folder, "api.key"), join(folder, "api.crt")];
  const options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=api"];
  const place = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert];
  execFileSync("openssl", ["req", "-x509", ...options, ...place], { stdio: "ignore" });
  return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
}
