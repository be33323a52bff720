import { NativeBuffer } from "@tulle/linux";
import type { TlsSession } from "../contract.ts";

/** What the peer has to say at the most in one go, in the tests that use `pump`. */
const MAX_ROUNDS = 64;

/** Takes everything that `session` wants to send. */
export function takeCiphertext(session: TlsSession): Buffer {
  if (session.pending === 0) return Buffer.alloc(0);
  const start = session.ciphertextOffset;
  const bytes = Buffer.from(session.ciphertext.bytes.subarray(start, start + session.pending));
  session.consume(session.pending);
  return bytes;
}

export function feedBytes(session: TlsSession, bytes: Uint8Array): void {
  session.feed(NativeBuffer.from(bytes), 0, bytes.length);
}

/** Moves what waits in `from` into `to` without copying, as the data path does; returns the number of bytes. */
export function move(from: TlsSession, to: TlsSession): number {
  const count = from.pending;
  if (count === 0) return 0;
  to.feed(from.ciphertext, from.ciphertextOffset, count);
  from.consume(count);
  return count;
}

/** Shakes hands until neither side has more to say. */
export function shakeHands(client: TlsSession, server: TlsSession): void {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    client.handshake();
    const there = move(client, server);
    server.handshake();
    const back = move(server, client);
    if (there === 0 && back === 0) return;
  }
  throw new Error("the handshake does not come to rest");
}

/** Everything that can be read now, and the result that ended it: AGAIN, 0 or -1. */
export function readAll(session: TlsSession, chunk = 16_384): { readonly bytes: Buffer; readonly end: number } {
  const buffer = NativeBuffer.alloc(chunk);
  const parts: Buffer[] = [];
  for (;;) {
    const count = session.read(buffer, 0, chunk);
    if (count <= 0) return { bytes: Buffer.concat(parts), end: count };
    parts.push(Buffer.from(buffer.bytes.subarray(0, count)));
  }
}

export function writeBytes(session: TlsSession, bytes: Uint8Array): boolean {
  return session.write(NativeBuffer.from(bytes), 0, bytes.length);
}
