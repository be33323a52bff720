import { Duplex } from "node:stream";
import { messageOf } from "@tulle/base";
import type { KubeConnection } from "@tulle/store";
import { WebSocket } from "ws";
import { CliError } from "../cli-error.ts";

/**
 * A connection to a pod's port through the API server, over its websocket protocol: each message begins with the number of
 * a channel, 0 for data and 1 for errors, and the first message of each channel is the port.
 */

type PortForwardSocket = Pick<
  WebSocket,
  "on" | "once" | "send" | "close" | "terminate" | "pause" | "resume" | "readyState"
>;

const PROTOCOL = "v4.channel.k8s.io";
const DATA = 0;
const ERROR = 1;
/** The port number at the beginning of each channel. */
const PORT_BYTES = 2;
/** As long as a request to the API server may take. */
const OPEN_TIMEOUT_MS = 30_000;
/** An answer that refuses the upgrade is read this far. */
const MAX_REFUSAL_BYTES = 4096;

/** Rejects with CliError. */
export async function portForward(
  connection: KubeConnection,
  pod: { readonly namespace: string; readonly name: string },
  port: number,
): Promise<Duplex> {
  const where = `pod ${pod.namespace}/${pod.name}, port ${port}`;
  for (let renew = false; ; renew = true) {
    const authorization = await connection.authorization(renew);
    const path = `/api/v1/namespaces/${encodeURIComponent(pod.namespace)}/pods/${encodeURIComponent(pod.name)}/portforward`;
    const url = `${connection.server.replace(/^http/, "ws")}${path}?ports=${port}`;
    const socket = new WebSocket(url, PROTOCOL, {
      ...connection.tls,
      handshakeTimeout: OPEN_TIMEOUT_MS,
      perMessageDeflate: false,
      ...(authorization !== undefined && { headers: { authorization } }),
    });
    const refused = await opened(socket);
    if (refused === undefined) return new ForwardedStream(socket, where);
    if (refused.status === 401 && !renew) continue;
    throw new CliError(
      `cannot reach ${where} through the API server: ${refused.text}`,
      refused.status === 403
        ? "ask the cluster's administrator for the right to create pods/portforward"
        : `see how the pod is: kubectl -n ${pod.namespace} describe pod ${pod.name}`,
    );
  }
}

interface Refusal {
  /** HTTP status; 0: there was no answer. */
  readonly status: number;
  readonly text: string;
}

function opened(socket: WebSocket): Promise<Refusal | undefined> {
  return new Promise((resolve) => {
    socket.once("open", () => {
      // The first bytes may have come with the answer: nobody listens yet.
      socket.pause();
      resolve(undefined);
    });
    socket.on("error", (error) => resolve({ status: 0, text: messageOf(error) }));
    socket.once("unexpected-response", (request, response) => {
      const status = response.statusCode ?? 0;
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body = (body + chunk).slice(0, MAX_REFUSAL_BYTES);
      });
      const done = () => {
        request.destroy();
        resolve({ status, text: `${status} ${statusMessage(body)}`.trim() });
      };
      response.once("end", done);
      response.once("error", done);
    });
  });
}

function statusMessage(body: string): string {
  try {
    const { message } = JSON.parse(body) as { readonly message?: string };
    if (message !== undefined) return message;
  } catch {
    // Proxies answer with plain text.
  }
  return body;
}

/** The bytes of channel 0. Ends when the other side closes; an error on channel 1 destroys it. */
export class ForwardedStream extends Duplex {
  readonly #socket: PortForwardSocket;
  /** How much of the port number is still to come, per channel. */
  readonly #preface = [PORT_BYTES, PORT_BYTES];

  constructor(socket: PortForwardSocket, where: string) {
    super();
    this.#socket = socket;
    socket.on("message", (message: Buffer) => this.#receive(message, where));
    socket.on("error", (error: Error) => this.destroy(error));
    socket.on("close", () => {
      this.push(null);
      // There is no half of a websocket: nothing can be written any more.
      this.end();
    });
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#socket.send(Buffer.concat([Buffer.of(DATA), chunk]), (error) => callback(error ?? null));
  }

  override _final(callback: () => void): void {
    this.#socket.close();
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#socket.terminate();
    callback(error);
  }

  #receive(message: Buffer, where: string): void {
    const channel = message[0];
    if (channel !== DATA && channel !== ERROR) return;
    const skipped = Math.min(this.#preface[channel] ?? 0, message.length - 1);
    this.#preface[channel] = (this.#preface[channel] ?? 0) - skipped;
    const bytes = message.subarray(1 + skipped);
    if (bytes.length === 0) return;
    if (channel === ERROR) {
      const next = "see whether the process listens there: kubectl logs of the pod";
      this.destroy(new CliError(`${where}: ${bytes.toString("utf8").trim()}`, next));
    } else if (!this.push(bytes)) {
      this.#socket.pause();
    }
  }
}
