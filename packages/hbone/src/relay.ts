import type { ErrorSide, MeshError } from "@tulle/base";
import {
  type ByteQueue,
  ErrorCode,
  type Http2Error,
  type Http2Stream,
  LARGE_BUFFER,
  SMALL_BUFFER,
  type StreamHandler,
} from "@tulle/h2";
import type { NativeBuffer } from "@tulle/linux";
import type { Connection, ConnectionHandler } from "@tulle/reactor";
import type { Relay, RelayEnd } from "./contract.ts";
import { overBudget, streamEnded } from "./errors.ts";

/** What a relay needs to know about the HBONE connection that carries it. */
export interface TunnelCarrier {
  /** Why the connection was ended by its owner, if it was. */
  readonly reason: MeshError | undefined;
  /** The HBONE peer as seen from this proxy. */
  readonly side: ErrorSide;
  /** What RST_STREAM says when the application has reset its connection. */
  readonly applicationReset: number;
}

const AGAIN = -11;
/** First and smallest read: fits into a small buffer together with other frames. */
const SMALL_READ = SMALL_BUFFER - 1024;
/** Largest read: half a batch, so that a batch holds more than one. */
const LARGE_READ = LARGE_BUFFER / 2 - 64;
const GROWTH = 4;
/** So many reads in a row that would have fitted into a small one make reads small again. */
const SMALL_READS = 16;

/**
 * Relays between an application's connection and a stream. The application's bytes are read straight into the
 * connection's output buffer; the peer's are written straight from where they were decrypted, and queued only when the
 * application does not take them. END_STREAM ↔ FIN, RST_STREAM ↔ RST.
 */
export class TunnelRelay implements Relay, StreamHandler, ConnectionHandler {
  sent = 0;
  received = 0;
  readonly #stream: Http2Stream;
  readonly #application: Connection;
  readonly #carrier: TunnelCarrier;
  readonly #onEnd: RelayEnd;
  readonly #queue: ByteQueue;
  #readSize = SMALL_READ;
  #smallReads = 0;
  /** The application has ended its side, and we ours of the stream. */
  #sendingDone = false;
  /** The peer has ended its side of the stream. */
  #remoteEnded = false;
  #over = false;

  /** `queue` holds what came before the relay was made. The stream must be open at least in one direction. */
  constructor(stream: Http2Stream, application: Connection, carrier: TunnelCarrier, queue: ByteQueue, onEnd: RelayEnd) {
    this.#stream = stream;
    this.#application = application;
    this.#carrier = carrier;
    this.#queue = queue;
    this.#onEnd = onEnd;
    stream.handler = this;
    application.setHandler(this);
  }

  /** Begins; `remoteEnded`: END_STREAM came before. */
  start(remoteEnded: boolean): void {
    this.#remoteEnded = remoteEnded;
    if (this.#queue.length > 0 || remoteEnded) this.onWritable();
    if (!this.#over) this.#pump();
  }

  abort(error: MeshError): void {
    if (this.#over) return;
    this.#stream.reset(ErrorCode.CANCEL);
    this.#application.reset();
    this.#finish(error);
  }

  /** The stream was over before the relay could begin: a normal end unless there is a reason. */
  peerGone(error?: MeshError): void {
    if (this.#over) return;
    this.#application.reset();
    this.#finish(error ?? this.#carrier.reason);
  }

  // === the application's connection

  onConnected(): void {}

  onReadable(): void {
    this.#pump();
  }

  onWritable(): void {
    const queue = this.#queue;
    while (queue.length > 0) {
      const { available } = queue;
      const count = this.#application.write(queue.buffer, queue.offset, available);
      if (count < 0 && count !== AGAIN) {
        this.#applicationGone();
        return;
      }
      if (count > 0) {
        this.received += count;
        queue.shift(count);
        this.#stream.consume(count, queue.length);
      }
      if (count < available) return;
    }
    if (this.#remoteEnded) this.#endApplication();
  }

  // === the stream

  onResponse(): void {}

  onData(stream: Http2Stream, buffer: NativeBuffer, offset: number, length: number): void {
    const queue = this.#queue;
    let taken = 0;
    if (queue.length === 0) {
      taken = this.#application.write(buffer, offset, length);
      if (taken < 0) {
        if (taken !== AGAIN) {
          this.#applicationGone();
          return;
        }
        taken = 0;
      }
      this.received += taken;
      if (taken === length) {
        stream.consume(length);
        return;
      }
    }
    if (!queue.push(buffer, offset + taken, length - taken)) {
      this.abort(overBudget());
      return;
    }
    if (taken > 0) stream.consume(taken, queue.length);
  }

  onEnd(): void {
    this.#remoteEnded = true;
    if (this.#queue.length === 0) this.#endApplication();
  }

  onReset(_stream: Http2Stream, error: Http2Error): void {
    if (this.#over) return;
    const lost = this.#stream.connection.closed;
    if (!lost && error.remote && error.code === ErrorCode.NO_ERROR && this.#sendingDone) {
      // A clean end that only leaves out END_STREAM: what has come is still delivered.
      this.#remoteEnded = true;
      this.onWritable();
      return;
    }
    this.#application.reset();
    this.#finish(this.#carrier.reason ?? streamEnded(error, lost, this.#carrier.side));
  }

  onSendable(): void {
    this.#pump();
  }

  /** Reads from the application as long as both sides let us. */
  #pump(): void {
    const stream = this.#stream;
    const application = this.#application;
    const { output } = stream.connection;
    while (!this.#over) {
      if (this.#sendingDone) {
        this.#watch();
        return;
      }
      const room = stream.reserve(this.#readSize);
      if (room === 0) return;
      const count = application.read(output.buffer, output.offset, room);
      if (count > 0) {
        stream.commit(count);
        this.sent += count;
        this.#adapt(count, room);
        continue;
      }
      stream.cancel();
      if (count === AGAIN) return;
      if (count < 0) {
        this.#applicationGone();
        return;
      }
      this.#sendingDone = true;
      stream.end();
      if (this.#remoteEnded && this.#queue.length === 0) this.#endApplication();
    }
  }

  /** The application has sent FIN; an RST may still follow. */
  #watch(): void {
    const scratch = this.#stream.connection.memory.ciphertext;
    const count = this.#application.read(scratch, 0, SMALL_BUFFER);
    if (count < 0 && count !== AGAIN) this.#applicationGone();
  }

  #adapt(count: number, room: number): void {
    if (count === room && room === this.#readSize) {
      this.#readSize = Math.min(LARGE_READ, room * GROWTH);
      this.#smallReads = 0;
    } else if (count > SMALL_READ) this.#smallReads = 0;
    else if (this.#readSize > SMALL_READ && ++this.#smallReads >= SMALL_READS) {
      this.#readSize = SMALL_READ;
      this.#smallReads = 0;
    }
  }

  /** Everything that the peer has sent was delivered. */
  #endApplication(): void {
    if (this.#over) return;
    this.#application.shutdownWrite();
    if (!this.#sendingDone) return;
    this.#application.close();
    this.#finish(undefined);
  }

  /** ECONNRESET, EPIPE and the like: a reset by the application, which is a normal end. */
  #applicationGone(): void {
    if (this.#over) return;
    this.#stream.reset(this.#carrier.applicationReset);
    this.#application.reset();
    this.#finish(undefined);
  }

  #finish(error: MeshError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#queue.clear();
    this.#onEnd(this, error);
  }
}
