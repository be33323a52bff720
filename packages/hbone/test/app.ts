import { NativeBuffer } from "@tulle/linux";
import type { Connection, ConnectionHandler } from "@tulle/reactor";

const AGAIN = -11;
const SCRATCH = NativeBuffer.alloc(65_536);

/** An application at one end of a connection: writes what it is told to, and keeps what it gets. */
export class App implements ConnectionHandler {
  readonly connection: Connection;
  connected: number | undefined;
  received = "";
  /** Counted instead of kept in `received`. */
  countOnly = false;
  bytes = 0;
  eof = false;
  /** -errno of a failed read or write. */
  error: number | undefined;
  #reading = true;
  #unsent = Buffer.alloc(0);
  #ending = false;

  constructor(connect: (handler: ConnectionHandler) => Connection) {
    this.connection = connect(this);
    this.connection.setHandler(this);
  }

  static on(connection: Connection): App {
    const app = new App(() => connection);
    app.connected = 0;
    connection.resumeReading();
    return app;
  }

  send(data: string | Buffer): void {
    this.#unsent = Buffer.concat([this.#unsent, Buffer.from(data)]);
    if (this.connected === 0) this.onWritable();
  }

  /** FIN behind what was sent. */
  end(): void {
    this.#ending = true;
    if (this.connected === 0) this.onWritable();
  }

  reset(): void {
    this.connection.reset();
  }

  stopReading(): void {
    this.#reading = false;
  }

  startReading(): void {
    this.#reading = true;
    this.connection.resumeReading();
  }

  get allSent(): boolean {
    return this.#unsent.length === 0;
  }

  onConnected(_connection: Connection, error: number): void {
    this.connected = error;
    if (error === 0) this.onWritable();
  }

  onReadable(): void {
    while (this.#reading) {
      const count = this.connection.read(SCRATCH, 0, SCRATCH.length);
      if (count === AGAIN) return;
      if (count < 0) {
        this.error ??= count;
        return;
      }
      if (count === 0) {
        this.eof = true;
        return;
      }
      this.bytes += count;
      if (!this.countOnly) this.received += SCRATCH.bytes.toString("latin1", 0, count);
    }
  }

  onWritable(): void {
    while (this.#unsent.length > 0) {
      const length = Math.min(this.#unsent.length, SCRATCH.length);
      const piece = NativeBuffer.from(this.#unsent.subarray(0, length));
      const count = this.connection.write(piece, 0, length);
      if (count < 0 && count !== AGAIN) {
        this.error ??= count;
        this.#unsent = Buffer.alloc(0);
        return;
      }
      if (count > 0) this.#unsent = this.#unsent.subarray(count);
      if (count < length) return;
    }
    if (this.#ending) this.connection.shutdownWrite();
  }
}
