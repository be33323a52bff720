import { connect } from "node:net";

/** What the node agent is told of a new pod: POST /cmdadd, as upstream's plugin does (spec: control-plane §7.3). */
export interface AddRequest {
  readonly Netns: string;
  readonly PodName: string;
  readonly PodNamespace: string;
  readonly IPs: readonly PodAddress[];
}

export interface PodAddress {
  /** Index into the result's interfaces. */
  readonly Interface?: number;
  /** `Mask`: its bytes in base64, which is how Go prints one. */
  readonly Address: { readonly IP: string; readonly Mask: string };
  readonly Gateway?: string;
}

export type AgentAnswer =
  | { readonly kind: "answered"; readonly status: number; readonly text: string }
  /** Nobody listens: the question never reached an agent. */
  | { readonly kind: "dead"; readonly reason: string }
  /** The agent may have acted, or still be acting. */
  | { readonly kind: "broken"; readonly reason: string };

export interface AgentTimeouts {
  readonly connectMs: number;
  readonly answerMs: number;
}

/**
 * A local socket connects at once or not at all. Five seconds for the answer are upstream's: the agent makes rules, and
 * waits for ztunnel, which may have to fetch a certificate; kubelet tries again after a failure.
 */
export const AGENT_TIMEOUTS: AgentTimeouts = { connectMs: 1000, answerMs: 5000 };
/** The agent explains a refusal in a line or two. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** Connection refused, no such socket or folder: there is no agent. */
const DEAD = ["ENOENT", "ECONNREFUSED", "ENOTDIR", "ENOTSOCK", "EACCES", "EPERM", "EPROTOTYPE"];

/**
 * Asks the agent. HTTP is written by hand because node:http takes longer to load than all the rest; version 1.0, so that
 * the answer ends with the connection and is never chunked.
 */
export function askAgent(socketPath: string, request: AddRequest, timeouts = AGENT_TIMEOUTS): Promise<AgentAnswer> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    let connected = false;
    let received = "";
    const end = (answer: AgentAnswer) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    let timer = setTimeout(() => end({ kind: "dead", reason: "the connection was not accepted" }), timeouts.connectMs);

    socket.setEncoding("utf8");
    socket.on("connect", () => {
      connected = true;
      clearTimeout(timer);
      const seconds = timeouts.answerMs / 1000;
      timer = setTimeout(() => end({ kind: "broken", reason: `no answer within ${seconds} s` }), timeouts.answerMs);
      const body = JSON.stringify(request);
      socket.write(
        `POST /cmdadd HTTP/1.0\r\nHost: unix\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    });
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (received.length > MAX_ANSWER_BYTES) end({ kind: "broken", reason: "the answer is too long" });
    });
    socket.on("end", () => end(parseAnswer(received)));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      const reason = error.code ?? error.message;
      end({ kind: !connected && DEAD.includes(reason) ? "dead" : "broken", reason });
    });
  });
}

function parseAnswer(received: string): AgentAnswer {
  const [head = "", ...rest] = received.split("\r\n\r\n");
  const match = /^HTTP\/1\.[01] (\d{3})\b/.exec(head);
  if (match === null) return { kind: "broken", reason: "the connection ended without an answer" };
  const length = /^content-length: *(\d+)\r?$/im.exec(head);
  const text = rest.join("\r\n\r\n");
  if (length !== null && Buffer.byteLength(text) < Number(length[1])) {
    return { kind: "broken", reason: "the connection ended in the middle of the answer" };
  }
  return { kind: "answered", status: Number(match[1]), text: text.trim() };
}
