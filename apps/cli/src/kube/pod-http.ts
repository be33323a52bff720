import { request } from "node:http";
import type { Duplex } from "node:stream";
import { messageOf } from "@tulle/base";
import { CliError } from "../cli-error.ts";

/** One request to a port of a pod over a connection that is there already. */

/** A dump of 100,000 workloads has some 70 MB. */
const MAX_ANSWER_BYTES = 512 * 1024 * 1024;
/** Writing such a dump takes seconds. */
const TIMEOUT_MS = 60_000;

export interface PodAnswer {
  readonly status: number;
  readonly text: string;
}

/** `where` is for messages. Rejects with CliError. */
export function podRequest(
  connection: Duplex,
  method: "GET" | "POST",
  path: string,
  where: string,
): Promise<PodAnswer> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      connection.destroy();
      if (error instanceof CliError) reject(error);
      else
        reject(
          new CliError(`${where} does not answer: ${messageOf(error)}`, "see its log, and whether it is ready", error),
        );
    };
    const timer = setTimeout(() => fail(new Error(`nothing within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
    const sent = request({
      method,
      path,
      // The admin port answers to local names only.
      headers: { host: "localhost", connection: "close" },
      createConnection: () => connection,
    });
    connection.on("error", fail);
    sent.on("error", fail);
    sent.on("close", () => clearTimeout(timer));
    sent.on("response", (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) fail(new Error(`the answer exceeds ${MAX_ANSWER_BYTES} bytes`));
        else chunks.push(chunk);
      });
      response.on("error", fail);
      response.on("end", () => {
        connection.destroy();
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") });
      });
      response.on("close", () => {
        if (!response.complete) fail(new Error("the connection broke in the middle of the answer"));
      });
    });
    sent.end();
  });
}
