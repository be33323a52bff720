import { get } from "node:http";
import type { SocketAddress } from "@tulle/base";
import { connectFrom } from "@tulle/lab";

const TIMEOUT_MS = 1000;

/** Asks a readiness page inside a namespace. Undefined when it says 200, else what it says. Never rejects. */
export async function askReady(namespacePath: string, at: SocketAddress, path: string): Promise<string | undefined> {
  let socket: Awaited<ReturnType<typeof connectFrom>>;
  try {
    socket = await connectFrom(namespacePath, at, { timeoutMs: TIMEOUT_MS });
  } catch {
    return "it does not listen yet";
  }
  return new Promise((resolve) => {
    const fail = (error: Error) => resolve(error.message);
    const call = get(
      { path, host: at.ip, createConnection: () => socket, signal: AbortSignal.timeout(TIMEOUT_MS) },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        answer.on("error", fail);
        answer.on("end", () => resolve(answer.statusCode === 200 ? undefined : text.trim()));
      },
    );
    call.on("error", fail);
    call.on("close", () => socket.destroy());
  });
}
