import * as http from "node:http";
import * as https from "node:https";
import { messageOf, sleep } from "@tulle/base";
import { StoreError } from "../contract.ts";
import { errorOfAnswer, KubeApiError } from "./kube-error.ts";
import type { KubeConnection } from "./kube-connection.ts";

export interface KubeRequest {
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default `application/json`. */
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
  /** From the call to the last byte of the answer, retries included. Default REQUEST_TIMEOUT_MS. */
  readonly timeoutMs?: number;
  /** For messages: `list pods`. Default: method and path. */
  readonly what?: string;
}

export type KubeMethod = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** As long as an operator waits for an answer; the API server itself gives up after 60 s. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** Requests under way at once; the others wait for a free connection, within their timeout. */
const MAX_CONNECTIONS = 16;
/** Requests under way or waiting; further ones are refused as UNAVAILABLE. */
const MAX_PENDING_REQUESTS = 2048;
/** One answer: a page of 500 objects, of which each may have 1.5 MiB in theory. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
/** An idle connection goes before the API server's own 90 s, so that a request never meets a closing one. */
const IDLE_CONNECTION_MS = 45_000;
/** A connection that is silent this long is probed, ten times at 1 s (libuv's choice); then it is dead. */
const KEEPALIVE_AFTER_MS = 15_000;
/** Repetitions after "too many requests" and after a kept-alive connection that had died. */
const MAX_RETRIES = 3;
const MAX_RETRY_AFTER_MS = 5_000;

/** HTTP to one API server: JSON in and out, credentials, time limits. Rejects with StoreError only. */
export class KubeApi {
  readonly connection: KubeConnection;
  readonly #base: URL;
  readonly #userAgent: string;
  readonly #timeoutMs: number;
  readonly #requests: http.Agent | https.Agent;
  /** A watch holds its connection for minutes: not one of the above. */
  readonly #watches: http.Agent | https.Agent;
  readonly #underWay = new Set<AbortController>();
  readonly #streams = new Set<http.IncomingMessage>();
  #pending = 0;
  #closed = false;

  /** `userAgent`: `tulle-control-plane/0.1`; its part before the slash is the manager of fields that patches write. */
  constructor(connection: KubeConnection, options: { readonly userAgent?: string; readonly timeoutMs?: number } = {}) {
    this.connection = connection;
    this.#base = new URL(connection.server);
    this.#timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS;
    this.#userAgent = options.userAgent ?? "tulle";
    const common = { keepAlive: true };
    const module = this.#base.protocol === "http:" ? http : https;
    this.#requests = new module.Agent({
      ...common,
      maxSockets: MAX_CONNECTIONS,
      timeout: IDLE_CONNECTION_MS,
      scheduling: "lifo",
      ...connection.tls,
    });
    this.#watches = new module.Agent({ ...common, ...connection.tls });
  }

  /** Sends and reads the answer as JSON; an empty answer is undefined. */
  async request<T>(method: KubeMethod, path: string, request: KubeRequest = {}): Promise<T> {
    const what = request.what ?? `${method} ${path}`;
    if (this.#pending >= MAX_PENDING_REQUESTS) {
      throw new KubeApiError("UNAVAILABLE", `${what}: ${MAX_PENDING_REQUESTS} requests wait already`, { status: 0 });
    }
    this.#pending += 1;
    const timeoutMs = request.timeoutMs ?? this.#timeoutMs;
    using life = this.#life(request.signal, what, timeoutMs);
    try {
      const text = await this.#withRetries(method, path, request, what, life.signal);
      return (text === "" ? undefined : JSON.parse(text)) as T;
    } catch (error) {
      if (error instanceof StoreError) throw error;
      if (life.signal.aborted) throw life.signal.reason;
      throw unreachable(what, this.connection, error);
    } finally {
      this.#pending -= 1;
    }
  }

  /**
   * Opens a watch: the body comes as it is sent. `signal` ends it at any time. Rejects as `request` does when the headers
   * do not come in time.
   */
  async stream(path: string, request: KubeRequest & { readonly signal: AbortSignal }): Promise<http.IncomingMessage> {
    const what = request.what ?? `GET ${path}`;
    using life = this.#life(request.signal, what, request.timeoutMs ?? this.#timeoutMs);
    try {
      for (let renew = false; ; renew = true) {
        const answer = await this.#send("GET", path, request, life.signal, this.#watches, renew);
        if (answer.statusCode === 200) {
          // From here on only the caller's signal counts; `life` ends with this function.
          const end = () => answer.destroy();
          this.#streams.add(answer);
          request.signal.addEventListener("abort", end, { once: true });
          answer.once("close", () => {
            this.#streams.delete(answer);
            request.signal.removeEventListener("abort", end);
          });
          return answer;
        }
        const body = await readText(answer, what);
        if (answer.statusCode === 401 && !renew) continue;
        throw errorOfAnswer(what, answer.statusCode ?? 0, body, answer.headers["retry-after"]);
      }
    } catch (error) {
      if (error instanceof StoreError) throw error;
      if (life.signal.aborted) throw life.signal.reason;
      throw unreachable(what, this.connection, error);
    }
  }

  /** Ends everything that is under way; later calls are refused. */
  close(): void {
    this.#closed = true;
    for (const controller of this.#underWay) controller.abort(closedError("request"));
    for (const stream of this.#streams) stream.destroy();
    this.#requests.destroy();
    this.#watches.destroy();
  }

  async #withRetries(
    method: KubeMethod,
    path: string,
    request: KubeRequest,
    what: string,
    signal: AbortSignal,
  ): Promise<string> {
    let renewed = false;
    for (let attempt = 0; ; attempt++) {
      let answer: http.IncomingMessage;
      try {
        answer = await this.#send(method, path, request, signal, this.#requests, renewed);
      } catch (error) {
        const again = error instanceof DeadConnectionError && attempt < MAX_RETRIES && mayRepeat(method, request);
        if (!again || signal.aborted) throw error;
        continue;
      }
      const body = await readText(answer, what);
      const status = answer.statusCode ?? 0;
      if (status >= 200 && status < 300) return body;
      const error = errorOfAnswer(what, status, body, answer.headers["retry-after"]);
      if (status === 401 && !renewed) {
        renewed = true;
      } else if (status === 429 && attempt < MAX_RETRIES) {
        await sleep(Math.min(error.retryAfterMs ?? 1000, MAX_RETRY_AFTER_MS), signal);
        if (signal.aborted) throw signal.reason;
      } else {
        throw error;
      }
    }
  }

  async #send(
    method: KubeMethod,
    path: string,
    request: KubeRequest,
    signal: AbortSignal,
    agent: http.Agent,
    renew: boolean,
  ): Promise<http.IncomingMessage> {
    signal.throwIfAborted();
    // A credential plugin may hang: the wait ends with the signal.
    const authorization = await orAborted(this.connection.authorization(renew), signal);
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request.query ?? {})) if (value !== undefined) query.set(name, value);
    const prefix = this.#base.pathname.replace(/\/$/, "");
    const options: https.RequestOptions = {
      method,
      agent,
      // URL keeps the brackets of an IPv6 address, net.connect wants none.
      hostname: this.#base.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: this.#base.port === "" ? (this.#base.protocol === "http:" ? 80 : 443) : this.#base.port,
      path: `${prefix}${path}${query.size === 0 ? "" : `?${query.toString()}`}`,
      headers: {
        accept: "application/json",
        // Compressing costs the API server more than the bytes cost in a cluster.
        "accept-encoding": "identity",
        "user-agent": this.#userAgent,
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined
          ? {}
          : { "content-type": request.contentType ?? "application/json", "content-length": body.length }),
      },
      signal,
    };
    const module = this.#base.protocol === "http:" ? http : https;
    return new Promise((resolve, reject) => {
      const sent = module.request(options, resolve);
      // The agent's own setting counts for idle connections only; a watch is never idle in its eyes.
      sent.on("socket", (socket) => socket.setKeepAlive(true, KEEPALIVE_AFTER_MS));
      sent.on("error", (error: NodeJS.ErrnoException) => {
        const died = sent.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
        reject(died ? new DeadConnectionError(error.message, { cause: error }) : error);
      });
      sent.end(body);
    });
  }

  /** A signal that aborts with a StoreError: at the timeout, with the caller's signal, or when the API is closed. */
  #life(
    signal: AbortSignal | undefined,
    what: string,
    timeoutMs: number,
  ): Disposable & { readonly signal: AbortSignal } {
    const controller = new AbortController();
    const abort = () => controller.abort(new KubeApiError("UNAVAILABLE", `${what}: given up`, { status: 0 }));
    const timer = setTimeout(() => {
      const text = `${what}: no answer from ${this.connection.server} within ${timeoutMs / 1000} s`;
      controller.abort(new KubeApiError("UNAVAILABLE", text, { status: 0 }));
    }, timeoutMs);
    if (this.#closed) controller.abort(closedError(what));
    else if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    this.#underWay.add(controller);
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this.#underWay.delete(controller);
      },
    };
  }
}

/** A kept-alive connection that the server had closed already: the request was not read. */
class DeadConnectionError extends Error {}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** Creating twice, or a JSON patch twice, is not the same as once. */
function mayRepeat(method: KubeMethod, request: KubeRequest): boolean {
  return method !== "POST" && request.contentType !== "application/json-patch+json";
}

function readText(answer: http.IncomingMessage, what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    answer.on("data", (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      if (length <= MAX_ANSWER_BYTES) return;
      answer.destroy();
      reject(new KubeApiError("UNAVAILABLE", `${what}: the answer exceeds ${MAX_ANSWER_BYTES} bytes`, { status: 0 }));
    });
    answer.on("error", reject);
    answer.on("aborted", () => reject(new Error("the connection ended inside the answer")));
    answer.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
  });
}

function unreachable(what: string, connection: KubeConnection, error: unknown): KubeApiError {
  const text = `${what}: cannot reach the API server at ${connection.server} (${connection.source}): ${messageOf(error)}`;
  return new KubeApiError("UNAVAILABLE", text, { status: 0 }, error);
}

function closedError(what: string): KubeApiError {
  return new KubeApiError("UNAVAILABLE", `${what}: the store is closed`, { status: 0 });
}
