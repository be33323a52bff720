import type { Duplex } from "node:stream";
import { NativeBuffer } from "@tulle/linux";
import type { TlsSession } from "../contract.ts";
import { feedBytes, readAll, takeCiphertext } from "./link.ts";

/** A session on a stream of Node's: what the data path does with a reactor's connection, for tests with foreign peers. */
export class Attached {
  readonly session: TlsSession;
  readonly #stream: Duplex;
  readonly #waiting: { readonly ready: () => boolean; readonly resolve: () => void }[] = [];
  received = Buffer.alloc(0);
  /** The result that ended the last read: AGAIN, 0 or -1. */
  end = -11;

  constructor(session: TlsSession, stream: Duplex) {
    this.session = session;
    this.#stream = stream;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    // The peer's way of leaving is not what these tests look at: they look at the session.
    stream.on("error", () => stream.destroy());
    stream.on("close", () => this.#wake());
    this.#go();
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    this.session.write(NativeBuffer.from(bytes), 0, bytes.length);
    this.#flush();
  }

  shutdown(): void {
    this.session.shutdown();
    this.#flush();
  }

  /** Resolves as soon as `ready` holds; rejects when the stream ends without it. */
  until(ready: (self: this) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const give = () => reject(new Error(`the stream ended: ${this.session.state} ${this.session.error?.message}`));
      this.#waiting.push({ ready: () => ready(this), resolve });
      this.#stream.once("close", give);
      this.#wake();
    });
  }

  close(): void {
    this.session.close();
    this.#stream.destroy();
  }

  #take(chunk: Buffer): void {
    if (this.session.state === "closed") return;
    feedBytes(this.session, chunk);
    this.#go();
  }

  #go(): void {
    this.session.handshake();
    const { bytes, end } = readAll(this.session);
    this.received = Buffer.concat([this.received, bytes]);
    this.end = end;
    this.#flush();
    this.#wake();
  }

  #flush(): void {
    const bytes = takeCiphertext(this.session);
    if (bytes.length > 0) this.#stream.write(bytes);
  }

  #wake(): void {
    for (const waiter of this.#waiting.splice(0)) {
      if (waiter.ready()) waiter.resolve();
      else this.#waiting.push(waiter);
    }
  }
}
