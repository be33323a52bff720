import { readFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";

export interface ApiAnswer {
  readonly status: number;
  readonly text: string;
}

/** A request that takes longer has no answer; waits ask again. */
const REQUEST_LIMIT_MS = 10_000;

/** The API server of a cluster, asked over its relay as `system:masters`, without the cost of a kubectl for each question. */
export class ApiClient {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** On the caller's loopback device. Throws ENOENT before the relay listens. */
  get server(): string {
    return `https://${readFileSync(join(this.#folder, "api-address"), "utf8").trim()}`;
  }

  /** Any status is an answer. Rejects when there is none. */
  request(method: string, path: string, body?: unknown): Promise<ApiAnswer> {
    const read = (file: string) => readFileSync(join(this.#folder, "pki", file));
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        new URL(path, this.server),
        {
          method,
          agent: false,
          ca: read("ca.crt"),
          cert: read("admin.crt"),
          key: read("admin.key"),
          timeout: REQUEST_LIMIT_MS,
          headers: body === undefined ? {} : { "content-type": "application/json" },
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8").on("data", (piece: string) => {
            text += piece;
          });
          response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
          response.on("error", reject);
        },
      );
      request.on("timeout", () => request.destroy(new Error(`no answer to ${method} ${path}`)));
      request.on("error", reject);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The object at a path; undefined for 404. Rejects for any other status than 200. */
  async get<T = Record<string, unknown>>(path: string): Promise<T | undefined> {
    const { status, text } = await this.request("GET", path);
    if (status === 404) return undefined;
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${text.slice(0, 500)}`);
    return JSON.parse(text) as T;
  }
}
