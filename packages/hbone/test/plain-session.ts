import { NativeBuffer } from "@tulle/linux";
import type { TlsPeer, TlsSession } from "@tulle/tls";

const AGAIN = -11;
const ROOM = 1 << 20;
/** Not a type of TLS records: what follows is passed on as it comes. */
export const HELLO = 1;

/** Who the other side of a `PlainSession` seems to be. */
export const PLAIN_PEER: TlsPeer = {
  identity: { trustDomain: "cluster.local", namespace: "default", serviceAccount: "peer" },
  notAfter: Number.MAX_SAFE_INTEGER,
};

/**
 * A TLS session that does not encrypt, for tests of what stands on top: its handshake is one octet each way. With
 * `refuse`, the handshake fails with this error once the peer's octet is there.
 */
export class PlainSession implements TlsSession {
  state: TlsSession["state"] = "handshaking";
  error: Error | undefined;
  peer: TlsPeer | undefined;
  readonly ciphertext = NativeBuffer.alloc(ROOM);
  ciphertextOffset = 0;
  pending = 0;
  readonly #input = NativeBuffer.alloc(ROOM);
  #start = 0;
  #end = 0;
  #hello = false;
  readonly #refuse: Error | undefined;

  constructor(refuse?: Error) {
    this.#refuse = refuse;
  }

  feed(buffer: NativeBuffer, offset: number, length: number): void {
    buffer.bytes.copy(this.#input.bytes, this.#end, offset, offset + length);
    this.#end += length;
  }

  handshake(): void {
    if (this.state !== "handshaking") return;
    if (!this.#hello) {
      this.#hello = true;
      this.#put(Buffer.from([HELLO]), 0, 1);
    }
    if (this.#start === this.#end) return;
    this.#start++;
    if (this.#refuse === undefined) {
      this.state = "open";
      this.peer = PLAIN_PEER;
    } else {
      this.state = "failed";
      this.error = this.#refuse;
    }
  }

  read(buffer: NativeBuffer, offset: number, length: number): number {
    const count = Math.min(length, this.#end - this.#start, 16_384);
    if (count === 0) {
      this.#start = this.#end = 0;
      return AGAIN;
    }
    this.#input.bytes.copy(buffer.bytes, offset, this.#start, this.#start + count);
    this.#start += count;
    return count;
  }

  write(buffer: NativeBuffer, offset: number, length: number): boolean {
    this.#put(buffer.bytes, offset, length);
    return true;
  }

  shutdown(): void {}

  consume(length: number): void {
    this.ciphertextOffset += length;
    this.pending -= length;
    if (this.pending === 0) this.ciphertextOffset = 0;
  }

  close(): void {
    this.state = "closed";
  }

  #put(bytes: Buffer, offset: number, length: number): void {
    const at = this.ciphertextOffset + this.pending;
    if (at + length > ROOM) throw new Error("a plain session holds too much");
    bytes.copy(this.ciphertext.bytes, at, offset, offset + length);
    this.pending += length;
  }
}
