import type { MeshError } from "@tulle/base";
import { type ByteBudget, ByteQueue, LARGE_BUFFER, SMALL_BUFFER, type ThreadMemory } from "@tulle/h2";
import type { Connection, ConnectionHandler } from "@tulle/reactor";
import type { Relay, RelayEnd } from "./contract.ts";
import { overBudget } from "./errors.ts";
import { threadMemory } from "./options.ts";

export interface PlainRelayOptions {
  readonly onEnd: RelayEnd;
  /** Limits what is held for a side that does not read. */
  readonly budget?: ByteBudget;
  /** Default: the thread's. */
  readonly memory?: ThreadMemory;
}

const AGAIN = -11;
const GROWTH = 4;

/** Relays bytes as they are between two connections; owns both. `sent` counts from `a` to `b`. FIN ↔ FIN, RST ↔ RST. */
export function relayPlain(a: Connection, b: Connection, options: PlainRelayOptions): Relay {
  const relay = new PlainRelay(a, b, options);
  relay.start();
  return relay;
}

class PlainRelay implements Relay {
  readonly #forth: Direction;
  readonly #back: Direction;
  readonly #onEnd: RelayEnd;
  #over = false;

  constructor(a: Connection, b: Connection, { onEnd, budget, memory = threadMemory() }: PlainRelayOptions) {
    this.#onEnd = onEnd;
    this.#forth = new Direction(this, a, b, memory, budget);
    this.#back = new Direction(this, b, a, memory, budget);
    a.setHandler(new Side(this.#forth, this.#back));
    b.setHandler(new Side(this.#back, this.#forth));
  }

  get sent(): number {
    return this.#forth.bytes;
  }

  get received(): number {
    return this.#back.bytes;
  }

  get over(): boolean {
    return this.#over;
  }

  start(): void {
    this.#forth.pump();
    this.#back.pump();
  }

  abort(error: MeshError): void {
    this.end("reset", error);
  }

  /** A direction has ended; both: the relay is over. */
  directionEnded(): void {
    if (this.#forth.ended && this.#back.ended) this.end("close", undefined);
  }

  end(how: "close" | "reset", error: MeshError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    for (const direction of [this.#forth, this.#back]) {
      direction.clear();
      if (how === "close") direction.from.close();
      else direction.from.reset();
    }
    this.#onEnd(this, error);
  }
}

/** Bytes from one connection to the other. What the receiver does not take waits in a queue, and stops the reading. */
class Direction {
  bytes = 0;
  /** FIN was read and passed on. */
  ended = false;
  readonly from: Connection;
  readonly #to: Connection;
  readonly #relay: PlainRelay;
  readonly #memory: ThreadMemory;
  readonly #queue: ByteQueue;
  #sourceEnded = false;
  /** Grows while the receiver takes everything: what a slow one makes us hold is small. */
  #readSize = SMALL_BUFFER;

  constructor(
    relay: PlainRelay,
    from: Connection,
    to: Connection,
    memory: ThreadMemory,
    budget: ByteBudget | undefined,
  ) {
    this.#relay = relay;
    this.from = from;
    this.#to = to;
    this.#memory = memory;
    this.#queue = new ByteQueue(memory, budget);
  }

  /** The source can be read. */
  pump(): void {
    const scratch = this.#memory.plaintext;
    while (!this.#relay.over && this.#queue.length === 0) {
      const room = this.#readSize;
      const count = this.from.read(scratch, 0, room);
      if (count === AGAIN) return;
      if (count < 0) {
        this.#relay.end("reset", undefined);
        return;
      }
      if (count === 0) {
        this.#sourceEnded = true;
        this.#endIfDrained();
        return;
      }
      const taken = this.#write(scratch, 0, count);
      if (taken < 0) return;
      if (taken === count) {
        if (count === room) this.#readSize = Math.min(LARGE_BUFFER, room * GROWTH);
        continue;
      }
      this.#readSize = SMALL_BUFFER;
      if (!this.#queue.push(scratch, taken, count - taken)) this.#relay.end("reset", overBudget());
    }
  }

  /** The receiver has room again. */
  drain(): void {
    const queue = this.#queue;
    if (queue.length === 0) return;
    while (queue.length > 0) {
      const { available } = queue;
      const taken = this.#write(queue.buffer, queue.offset, available);
      if (taken < 0) return;
      if (taken > 0) queue.shift(taken);
      if (taken < available) return;
    }
    this.#endIfDrained();
    if (!this.#sourceEnded) this.pump();
  }

  clear(): void {
    this.#queue.clear();
  }

  /** Bytes taken, or -1: the relay is over. */
  #write(buffer: ByteQueue["buffer"], offset: number, length: number): number {
    const count = this.#to.write(buffer, offset, length);
    if (count >= 0) {
      this.bytes += count;
      return count;
    }
    if (count === AGAIN) return 0;
    this.#relay.end("reset", undefined);
    return -1;
  }

  #endIfDrained(): void {
    if (!this.#sourceEnded || this.ended || this.#queue.length > 0) return;
    this.ended = true;
    this.#to.shutdownWrite();
    this.#relay.directionEnded();
  }
}

/** One connection's events: it is the source of one direction and the receiver of the other. */
class Side implements ConnectionHandler {
  readonly #outgoing: Direction;
  readonly #incoming: Direction;

  constructor(outgoing: Direction, incoming: Direction) {
    this.#outgoing = outgoing;
    this.#incoming = incoming;
  }

  onConnected(): void {}

  onReadable(): void {
    this.#outgoing.pump();
  }

  onWritable(): void {
    this.#incoming.drain();
  }
}
