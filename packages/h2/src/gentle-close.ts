import type { NativeBuffer } from "@tulle/linux";
import type { Connection, ConnectionHandler, Timer } from "@tulle/reactor";
import type { Timers } from "./liveness.ts";

/** How long the peer may take to read our last words and to close. */
const LINGER_MS = 1000;
/** Bytes that are thrown away meanwhile; a peer that sends more is reset. */
const MAX_DISCARDED = 1_048_576;

/**
 * Closes a connection so that what was written last (a GOAWAY, an alert) arrives: FIN first, then what still comes is
 * thrown away until the peer closes too. A close with unread bytes would make the kernel send RST, which may overtake
 * what we have said.
 */
export function closeGently(connection: Connection, timers: Timers, scratch: NativeBuffer): void {
  connection.setHandler(new GentleClose(connection, timers, scratch));
  connection.shutdownWrite();
  connection.resumeReading();
}

class GentleClose implements ConnectionHandler {
  readonly #connection: Connection;
  readonly #scratch: NativeBuffer;
  readonly #timer: Timer;
  #discarded = 0;

  constructor(connection: Connection, timers: Timers, scratch: NativeBuffer) {
    this.#connection = connection;
    this.#scratch = scratch;
    this.#timer = timers.after(LINGER_MS, () => connection.reset());
  }

  onConnected(): void {}

  onReadable(): void {
    for (;;) {
      const count = this.#connection.read(this.#scratch, 0, this.#scratch.length);
      if (count === AGAIN) return;
      this.#discarded += count;
      if (count <= 0 || this.#discarded > MAX_DISCARDED) {
        this.#timer.cancel();
        if (count === 0) this.#connection.close();
        else this.#connection.reset();
        return;
      }
    }
  }

  onWritable(): void {}
}

const AGAIN = -11;
