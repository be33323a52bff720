import { connectFrom } from "@tulle/lab";

export interface HttpAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** A plain HTTP/1.0 request from inside a namespace, so that the answer ends with the connection. */
export async function httpRequest(
  namespacePath: string,
  to: { readonly ip: string; readonly port: number },
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<HttpAnswer> {
  const socket = await connectFrom(namespacePath, to);
  const lines = Object.entries({ host: "localhost", connection: "close", ...headers }).map(
    ([k, v]) => `${k}: ${v}\r\n`,
  );
  socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  const split = text.indexOf("\r\n\r\n");
  const head = text.slice(0, split);
  const raw = text.slice(split + 4);
  const body = /transfer-encoding: chunked/i.test(head) ? unchunk(raw) : raw;
  return { status: Number(head.split(" ")[1]), head, body };
}

function unchunk(text: string): string {
  let rest = text;
  let out = "";
  for (;;) {
    const end = rest.indexOf("\r\n");
    const size = Number.parseInt(rest.slice(0, end), 16);
    if (end < 0 || !(size > 0)) return out;
    out += rest.slice(end + 2, end + 2 + size);
    rest = rest.slice(end + 2 + size + 2);
  }
}
