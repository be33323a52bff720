import type { Socket } from "node:net";
import type { SocketAddress } from "@tulle/base";
import { connectFrom, until } from "@tulle/lab";

/** How a call ended: by the other side's FIN, or with an error code (`ECONNRESET`). */
export type CallEnd = "end" | (string & {});

/** The application's end of one connection, opened inside a namespace. */
export class Call implements Disposable {
  readonly socket: Socket;
  #received = "";
  #end: CallEnd | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      this.#received += text;
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#end ??= error.code ?? error.message;
    });
    socket.on("end", () => {
      this.#end ??= "end";
    });
    socket.on("close", () => {
      this.#end ??= "closed";
    });
  }

  static async open(namespacePath: string, to: SocketAddress): Promise<Call> {
    return new Call(await connectFrom(namespacePath, to));
  }

  get received(): string {
    return this.#received;
  }

  /** Undefined while it is open. */
  get end(): CallEnd | undefined {
    return this.#end;
  }

  /** Sends a text and waits until an echo server has sent it back; throws when the connection ends before that. */
  async say(text: string): Promise<void> {
    const before = this.#received.length;
    this.socket.write(text);
    await until(() => this.#received.length - before >= text.length || this.#end !== undefined, {
      what: `the echo of ${text}`,
    });
    const answer = this.#received.slice(before);
    if (answer !== text) throw new Error(`said ${text}, heard "${answer}", then ${this.#end}`);
  }

  /** Waits for the other side's end. */
  async over(timeoutMs?: number): Promise<CallEnd> {
    return until(() => this.#end, {
      what: "the connection to end",
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** One question to an echo server: `ok`, or how it failed (`ECONNRESET`, `ECONNREFUSED`, `ETIMEDOUT`, `end`). */
export async function ask(namespacePath: string, to: SocketAddress, text = "ping"): Promise<string> {
  try {
    using call = await Call.open(namespacePath, to);
    call.socket.write(text);
    await until(() => call.received === text || call.end !== undefined, { what: "an answer or an end" });
    return call.received === text ? "ok" : (call.end ?? call.received);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
