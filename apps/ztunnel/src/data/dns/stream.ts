import { NativeBuffer } from "@tulle/linux";
import { AGAIN, type Connection, type ConnectionHandler, type Reactor, type Timer } from "@tulle/reactor";

/** How long a client may be silent (spec: l4-ztunnel §8). */
const IDLE_MS = 5000;
const LENGTH_PREFIX = 2;
/** Bytes of answers that a client may leave unread: two of the largest. */
const MAX_UNSENT = 2 * (LENGTH_PREFIX + 65_535);
const READ_SIZE = 4096;

export interface DnsStreamHandler {
  onMessage(message: Uint8Array, respond: (answer: Uint8Array) => void): void;
  onClosed(): void;
}

/** One DNS client over TCP: messages with a length before each (RFC 1035 §4.2.2), answered in any order. */
export class DnsStream implements ConnectionHandler {
  readonly #reactor: Reactor;
  readonly #connection: Connection;
  readonly #handler: DnsStreamHandler;
  readonly #scratch = NativeBuffer.alloc(READ_SIZE);
  #received = Buffer.alloc(0);
  #unsent: NativeBuffer | undefined;
  #idle: Timer;
  /** Questions that were not answered yet. */
  #owed = 0;
  #draining = false;

  constructor(reactor: Reactor, connection: Connection, handler: DnsStreamHandler) {
    this.#reactor = reactor;
    this.#connection = connection;
    this.#handler = handler;
    this.#idle = reactor.after(IDLE_MS, () => this.close());
    connection.setHandler(this);
  }

  onConnected(): void {}

  onReadable(connection: Connection): void {
    for (;;) {
      const length = connection.read(this.#scratch, 0, READ_SIZE);
      if (length === AGAIN || connection.closed) return;
      if (length <= 0) return this.close();
      this.#touch();
      this.#received = Buffer.concat([this.#received, this.#scratch.bytes.subarray(0, length)]);
      this.#takeMessages();
    }
  }

  onWritable(connection: Connection): void {
    const unsent = this.#unsent;
    this.#unsent = undefined;
    if (unsent !== undefined && !connection.closed) this.#write(unsent);
    this.#closeWhenDone();
  }

  /** Closes as soon as what was asked is answered. */
  drain(): void {
    this.#draining = true;
    this.onReadable(this.#connection);
    this.#closeWhenDone();
  }

  close(): void {
    this.#idle.cancel();
    if (this.#connection.closed) return;
    this.#connection.close();
    this.#handler.onClosed();
  }

  #takeMessages(): void {
    while (this.#received.length >= LENGTH_PREFIX) {
      const end = LENGTH_PREFIX + this.#received.readUInt16BE(0);
      if (this.#received.length < end) return;
      const message = Uint8Array.from(this.#received.subarray(LENGTH_PREFIX, end));
      this.#received = this.#received.subarray(end);
      this.#owed++;
      this.#handler.onMessage(message, (answer) => this.#respond(answer));
    }
  }

  #closeWhenDone(): void {
    if (this.#draining && this.#owed === 0 && this.#unsent === undefined) this.close();
  }

  #respond(answer: Uint8Array): void {
    if (this.#connection.closed) return;
    this.#owed--;
    const waiting = this.#unsent?.bytes ?? Buffer.alloc(0);
    const framed = NativeBuffer.alloc(waiting.length + LENGTH_PREFIX + answer.length);
    framed.bytes.set(waiting);
    framed.bytes.writeUInt16BE(answer.length, waiting.length);
    framed.bytes.set(answer, waiting.length + LENGTH_PREFIX);
    if (framed.length > MAX_UNSENT) return this.close();
    if (this.#unsent === undefined) this.#write(framed);
    else this.#unsent = framed;
    this.#closeWhenDone();
  }

  #write(buffer: NativeBuffer): void {
    const sent = this.#connection.write(buffer, 0, buffer.length);
    if (sent === buffer.length) return;
    if (sent < 0 && sent !== AGAIN) return this.close();
    this.#unsent = NativeBuffer.from(buffer.bytes.subarray(Math.max(0, sent)));
  }

  #touch(): void {
    this.#idle.cancel();
    this.#idle = this.#reactor.after(IDLE_MS, () => this.close());
  }
}
