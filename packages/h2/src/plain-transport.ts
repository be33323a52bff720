import type { NativeBuffer } from "@tulle/linux";
import type { Connection, ConnectionHandler as SocketHandler } from "@tulle/reactor";
import { type ConnectionHandler, Http2Connection, type Role } from "./connection.ts";
import type { Http2Limits } from "./limits.ts";
import { closeGently } from "./gentle-close.ts";
import type { Timers } from "./liveness.ts";
import type { ThreadMemory } from "./memory.ts";
import type { Http2Transport } from "./output.ts";

export interface PlainOptions {
  readonly role: Role;
  /** Accepted, or connected already. Owned from here on. */
  readonly connection: Connection;
  readonly timers: Timers;
  readonly memory: ThreadMemory;
  readonly handler: ConnectionHandler;
  readonly limits?: Partial<Http2Limits>;
}

/** Runs HTTP/2 in cleartext with prior knowledge (RFC 9113 §3.3) on a connection. */
export function servePlain(options: PlainOptions): Http2Connection {
  return new PlainTransport(options).http2;
}

const AGAIN = -11;

class PlainTransport implements Http2Transport, SocketHandler {
  readonly http2: Http2Connection;
  readonly #connection: Connection;
  readonly #memory: ThreadMemory;
  readonly #timers: Timers;
  /** An orderly end was asked for, though the socket is full: what is left is cut off. */
  #blocked = false;

  constructor({ role, connection, timers, memory, handler, limits }: PlainOptions) {
    this.#connection = connection;
    this.#memory = memory;
    this.#timers = timers;
    connection.setHandler(this);
    this.http2 = new Http2Connection({ role, memory, timers, transport: this, handler, limits: limits ?? {} });
    this.http2.transportWritable();
    // Bytes may have come while nobody listened.
    connection.resumeReading();
  }

  write(buffer: NativeBuffer, offset: number, length: number): number {
    const count = this.#connection.write(buffer, offset, length);
    this.#blocked = count < length;
    // An error is found by the next read too: it is reported there, outside of whatever is being sent.
    return Math.max(count, 0);
  }

  flush(): boolean {
    return !this.#blocked;
  }

  end(): void {
    if (this.#connection.closed) return;
    if (this.#blocked) this.#connection.reset();
    else closeGently(this.#connection, this.#timers, this.#memory.plaintext);
  }

  onConnected(): void {}

  onReadable(): void {
    const { plaintext } = this.#memory;
    while (!this.http2.closed) {
      const count = this.#connection.read(plaintext, 0, plaintext.length);
      if (count === AGAIN) return;
      if (count <= 0) {
        const error = count < 0 ? new Error(`read failed with errno ${-count}`) : undefined;
        if (error !== undefined) this.#connection.reset();
        this.http2.transportClosed(error);
        return;
      }
      this.http2.feed(plaintext, 0, count);
    }
  }

  onWritable(): void {
    this.#blocked = false;
    this.http2.transportWritable();
  }
}
