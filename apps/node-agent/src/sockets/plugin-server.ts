import { once } from "node:events";
import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Socket } from "node:net";
import { join } from "node:path";
import { canonicalIp, type Log, messageOf } from "@tulle/base";
import { peerCredentials } from "@tulle/linux";
import { makePrivateFolder } from "./private-folder.ts";

/** The socket at which the CNI plugin asks for new pods (spec: control-plane §7.3, l4-ztunnel §1.12). */

/** What the plugin knows of a pod that is being made. */
export interface NewPod {
  readonly netns: string;
  readonly name: string;
  readonly namespace: string;
  /** Canonical, at least one. */
  readonly ips: readonly string[];
}

export interface PluginServerOptions {
  /** Gets the socket `pluginevent.sock`; made private to root. */
  readonly folder: string;
  /** Resolves when the pod may start; rejects with what the kubelet is to show. */
  readonly add: (pod: NewPod) => Promise<void>;
  readonly onAnswer?: (status: number) => void;
  /** A process that is not root's was turned away. */
  readonly onRefused?: () => void;
  readonly log: Log;
  /** Default 4.5 s: the plugin waits for five. */
  readonly timeoutMs?: number;
}

export const PLUGIN_SOCKET = "pluginevent.sock";
const ANSWER_WITHIN_MS = 4500;
/** A request names one pod and a few addresses. */
const MAX_BODY_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 128;
const REQUEST_TIMEOUT_MS = 5000;
/** Addresses of one pod: one of each family, and room for pods with several networks. */
const MAX_IPS = 16;

export class PluginServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /** Listens. Throws MeshError UNSAFE_FOLDER, or Node's error. */
  static async start(options: PluginServerOptions): Promise<PluginServer> {
    makePrivateFolder(options.folder);
    const path = join(options.folder, PLUGIN_SOCKET);
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
    const server = createServer(
      { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
      (request, response) => {
        response.on("error", () => {
          // The plugin has gone: the kubelet tries again.
        });
        void answer(request, options).then(({ status, text }) => {
          options.onAnswer?.(status);
          response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(text);
        });
      },
    );
    server.maxConnections = MAX_CONNECTIONS;
    // Before any byte of a request is read.
    server.on("connection", (socket) => {
      if (isRoot(socket)) return;
      options.onRefused?.();
      socket.destroy();
    });
    server.listen({ path });
    await once(server, "listening");
    chmodSync(path, 0o600);
    server.on("error", (error) => options.log.error("the plugin's socket failed", { error: messageOf(error) }));
    return new PluginServer(server, path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
    if (lstatSync(this.#path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(this.#path);
  }
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

async function answer(request: IncomingMessage, options: PluginServerOptions): Promise<Answer> {
  const { add, log, timeoutMs = ANSWER_WITHIN_MS } = options;
  if (request.method !== "POST" || request.url !== "/cmdadd")
    return { status: 404, text: "POST /cmdadd is all there is\n" };
  let pod: NewPod;
  try {
    pod = readNewPod(JSON.parse(await bodyOf(request)));
  } catch (error) {
    return { status: 400, text: `the request cannot be read: ${messageOf(error)}\n` };
  }
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`it is not done after ${timeoutMs / 1000} s: it is tried again`)),
    timeoutMs,
  );
  try {
    await Promise.race([add(pod), late]);
    return { status: 200, text: "" };
  } catch (error) {
    log.warn("a new pod cannot start yet", { pod: `${pod.namespace}/${pod.name}`, error: messageOf(error) });
    return { status: 500, text: `${messageOf(error)}\n` };
  } finally {
    clearTimeout(timer);
  }
}

/** Exported for tests. Throws RangeError that names the field. */
export function readNewPod(value: unknown): NewPod {
  const { Netns, PodName, PodNamespace, IPs } = record(value, "the body");
  if (!Array.isArray(IPs) || IPs.length === 0) throw new RangeError("IPs must be a list with at least one address");
  if (IPs.length > MAX_IPS) throw new RangeError(`IPs holds more than ${MAX_IPS} addresses`);
  const ips = IPs.map((item: unknown, index) => {
    const text = string(
      record(record(item, `IPs[${index}]`).Address, `IPs[${index}].Address`).IP,
      `IPs[${index}].Address.IP`,
    );
    const ip = canonicalIp(text);
    if (ip === undefined) throw new RangeError(`IPs[${index}].Address.IP is no address`);
    return ip;
  });
  return {
    netns: string(Netns, "Netns"),
    name: string(PodName, "PodName"),
    namespace: string(PodNamespace, "PodNamespace"),
    ips,
  };
}

function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new RangeError(`${what} must be an object`);
}

function string(value: unknown, what: string): string {
  if (typeof value === "string" && value !== "") return value;
  throw new RangeError(`${what} must be a text`);
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) throw new RangeError(`it is longer than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** The folder keeps others out already; somebody may have been handed a descriptor of it. */
function isRoot(socket: Socket): boolean {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } };
  const fd = handle?.fd ?? -1;
  return fd >= 0 && peerCredentials(fd).uid === 0;
}
