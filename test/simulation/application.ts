import { createHash } from "node:crypto";
import type { Random } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import { AGAIN, type Connection, type ConnectionHandler, type Reactor } from "@tulle/reactor";

/** Each 64 bytes of a stream begin with this: it must never be seen between two hosts. */
export const MARKER = Buffer.from("PLAINTEXT-OF-APP");
const BLOCK = 64;
const CHUNK = 16_384;

/** Each block says whose it is, after the marker: a receiver learns it from the first block and holds the stream to it. */
const ID_OFFSET = MARKER.length;
const HEAD = ID_OFFSET + 4;

/** The bytes at [offset, offset + length) of stream `id`: a function of both, so that both ends know what must arrive. */
export function streamBytes(id: number, offset: number, length: number): Buffer {
  const out = Buffer.alloc(length);
  for (let block = Math.floor(offset / BLOCK); block * BLOCK < offset + length; block++) {
    const content = Buffer.alloc(BLOCK);
    MARKER.copy(content);
    content.writeUInt32BE(id, ID_OFFSET);
    createHash("sha256").update(`${id}:${block}`).digest().copy(content, HEAD);
    content.copy(out, Math.max(0, block * BLOCK - offset), Math.max(0, offset - block * BLOCK));
  }
  return out;
}

/** How one end behaves; drawn from the seed. */
export interface Behaviour {
  readonly bytes: number;
  /** Resets the connection after this many bytes were sent; undefined: never. */
  readonly resetAfter: number | undefined;
  /** Sends FIN as soon as everything was sent, or only when the other side has ended too. */
  readonly finish: "when-sent" | "after-peer";
  /** Pauses reading for this long after every so many bytes: a slow reader. */
  readonly slow: { readonly everyBytes: number; readonly pauseMs: number } | undefined;
}

export function drawBehaviour(random: Random, hostile: boolean): Behaviour {
  const bytes = random() < 0.2 ? 0 : Math.floor(2 ** (random() * 18));
  return {
    bytes,
    resetAfter: hostile && random() < 0.15 ? Math.floor(random() * (bytes + 1)) : undefined,
    finish: random() < 0.7 ? "when-sent" : "after-peer",
    slow: random() < 0.2 ? { everyBytes: 4096, pauseMs: 5 + random() * 50 } : undefined,
  };
}

export type PeerState = "connecting" | "open" | "ended" | "reset" | "refused";

/** One end of an application's connection: sends its stream, checks the other one's byte by byte. */
export class ApplicationPeer implements ConnectionHandler {
  state: PeerState = "connecting";
  sent = 0;
  received = 0;
  /** The peer's FIN was seen. */
  sawEnd = false;
  /** What was wrong with what arrived; undefined: nothing. */
  violation: string | undefined;
  readonly behaviour: Behaviour;
  readonly #reactor: Reactor;
  readonly #outgoing: number;
  /** The other end's stream, once its first block has said so. */
  #incoming: number | undefined;
  #head: Buffer = Buffer.alloc(0);
  readonly #buffer = NativeBuffer.alloc(CHUNK);
  #pausedUntil = 0;
  #sincePause = 0;
  #finished = false;

  /** `stream`: the number of what this end sends, unique in the run. */
  constructor(reactor: Reactor, behaviour: Behaviour, stream: number) {
    this.#reactor = reactor;
    this.behaviour = behaviour;
    this.#outgoing = stream;
  }

  /** Whose stream arrived; undefined while nothing (or too little) did. */
  get incoming(): number | undefined {
    return this.#incoming;
  }

  get over(): boolean {
    return this.state === "ended" || this.state === "reset" || this.state === "refused";
  }

  accepted(connection: Connection): void {
    this.state = "open";
    connection.setHandler(this);
    this.#send(connection);
  }

  onConnected(connection: Connection, error: number): void {
    this.state = error === 0 ? "open" : "refused";
    if (error === 0) this.#send(connection);
  }

  onReadable(connection: Connection): void {
    while (!connection.closed && !this.over) {
      const wait = this.#pausedUntil - this.#reactor.now();
      if (wait > 0) {
        this.#reactor.after(wait, () => connection.resumeReading());
        return;
      }
      const length = connection.read(this.#buffer, 0, CHUNK);
      if (length === AGAIN) return;
      if (length < 0) return this.#broken(connection);
      if (length === 0) return this.#onEnd(connection);
      this.#check(length);
    }
  }

  onWritable(connection: Connection): void {
    this.#send(connection);
  }

  #check(length: number): void {
    const arrived = Buffer.concat([this.#head, this.#buffer.bytes.subarray(0, length)]);
    const offset = this.received - this.#head.length;
    if (this.#incoming === undefined && arrived.length >= HEAD) this.#incoming = arrived.readUInt32BE(ID_OFFSET);
    // The first few bytes wait until they say whose they are.
    this.#head = this.#incoming === undefined ? arrived : Buffer.alloc(0);
    if (this.violation === undefined && this.#incoming !== undefined) {
      if (streamBytes(this.#incoming, offset, arrived.length).compare(arrived) !== 0) {
        this.violation = `stream ${this.#incoming}: wrong bytes in [${offset}, ${offset + arrived.length})`;
      }
    }
    this.received += length;
    this.#sincePause += length;
    const { slow } = this.behaviour;
    if (slow === undefined || this.#sincePause < slow.everyBytes) return;
    this.#sincePause = 0;
    this.#pausedUntil = this.#reactor.now() + slow.pauseMs;
  }

  #send(connection: Connection): void {
    const { bytes, resetAfter } = this.behaviour;
    const limit = Math.min(bytes, resetAfter ?? bytes);
    while (!this.over && this.sent < limit) {
      const length = Math.min(CHUNK, limit - this.sent);
      streamBytes(this.#outgoing, this.sent, length).copy(this.#buffer.bytes);
      const done = connection.write(this.#buffer, 0, length);
      if (done === AGAIN) return;
      if (done < 0) return this.#broken(connection);
      this.sent += done;
      if (done < length) return;
    }
    if (resetAfter !== undefined && !this.over) {
      connection.reset();
      return this.#end("reset");
    }
    this.#finish(connection);
  }

  #finish(connection: Connection): void {
    if (this.over || this.#finished || this.sent < this.behaviour.bytes) return;
    if (this.behaviour.finish === "after-peer" && !this.sawEnd) return;
    this.#finished = true;
    connection.shutdownWrite();
    this.#closeIfDone(connection);
  }

  #onEnd(connection: Connection): void {
    this.sawEnd = true;
    this.#finish(connection);
    this.#closeIfDone(connection);
  }

  #closeIfDone(connection: Connection): void {
    if (!this.#finished || !this.sawEnd || this.over) return;
    connection.close();
    this.#end("ended");
  }

  #broken(connection: Connection): void {
    connection.close();
    this.#end("reset");
  }

  #end(state: PeerState): void {
    this.state = state;
  }
}
