import { type Descriptor, DescriptorWatch, Errno, errnoText, NativeBuffer, type SeqpacketSocket } from "@tulle/linux";
import { MAX_PACKET } from "./protocol.ts";

export interface PacketHandler {
  /** The handler owns the descriptors: it closes what it does not keep. */
  onPacket(bytes: Uint8Array, descriptors: Descriptor[]): void;
  /** A packet that is too long or lost descriptors; what came with it is closed. */
  onTruncated(): void;
  /** Once; `error` is undefined at an orderly end. Not called after `close`. */
  onEnd(error: string | undefined): void;
}

/** A SOCK_SEQPACKET connection on Node's loop: packets in, packets out. */
export class PacketSocket {
  readonly #socket: SeqpacketSocket;
  readonly #handler: PacketHandler;
  readonly #watch: DescriptorWatch;
  readonly #buffer = NativeBuffer.alloc(MAX_PACKET);
  #closed = false;

  /** Takes over the socket. */
  constructor(socket: SeqpacketSocket, handler: PacketHandler) {
    this.#socket = socket;
    this.#handler = handler;
    this.#watch = new DescriptorWatch(socket.descriptor, () => this.#receiveAll());
  }

  /** Undefined, or why it could not be sent. Each side waits for an answer before it goes on, so a full queue is an error. */
  send(bytes: Uint8Array, descriptors: readonly Descriptor[] = []): string | undefined {
    const sent = this.#socket.send(NativeBuffer.from(bytes), 0, bytes.length, descriptors);
    return sent < 0 ? errnoText(-sent) : undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    this.#socket.close();
  }

  #receiveAll(): void {
    while (!this.#closed) {
      const length = this.#socket.receive(this.#buffer, 0, MAX_PACKET);
      if (length === -Errno.EAGAIN) return;
      if (length <= 0) return this.#end(length === 0 ? undefined : errnoText(-length));
      if (this.#socket.truncated || this.#socket.descriptorsTruncated) this.#handler.onTruncated();
      else {
        const bytes = Uint8Array.from(this.#buffer.bytes.subarray(0, length));
        this.#handler.onPacket(bytes, this.#socket.takeDescriptors());
      }
    }
  }

  #end(error: string | undefined): void {
    this.close();
    this.#handler.onEnd(error);
  }
}
