import type { SimulatedNamespace, SimulatedNetwork } from "./network.ts";

export interface PipeEnds {
  readonly from: SimulatedNamespace;
  readonly to: SimulatedNamespace;
  /** Bytes, FIN or a reset can be read. */
  readonly onReadable: () => void;
  /** There is room again. */
  readonly onRoom: () => void;
}

/** One direction of a TCP connection: what was written, what is under way, what can be read. Bytes arrive in order. */
export class Pipe {
  readonly #network: SimulatedNetwork;
  readonly #ends: PipeEnds;
  readonly #name: string;
  readonly #received: Buffer[] = [];
  #readable = 0;
  #inFlight = 0;
  #lastArrival = 0;
  #writerBlocked = false;
  /** FIN was sent, FIN has arrived. */
  #finSent = false;
  #finArrived = false;
  #resetArrived = false;
  /** The reader is gone: what arrives is answered by a reset. */
  #readerGone = false;
  #onRefused: () => void = () => {};

  constructor(network: SimulatedNetwork, name: string, ends: PipeEnds) {
    this.#network = network;
    this.#name = name;
    this.#ends = ends;
  }

  get readable(): number {
    return this.#readable;
  }

  /** End of the bytes, orderly. */
  get ended(): boolean {
    return this.#finArrived && this.#readable === 0;
  }

  get wasReset(): boolean {
    return this.#resetArrived;
  }

  get readyToRead(): boolean {
    return this.#readable > 0 || this.#finArrived || this.#resetArrived;
  }

  /** Called when the reader answers what it gets by a reset. */
  set onRefused(callback: () => void) {
    this.#onRefused = callback;
  }

  /** How many bytes were taken; 0: no room, and `onRoom` follows. */
  write(bytes: Uint8Array): number {
    const { faults } = this.#network;
    const room = Math.max(0, faults.capacity - this.#inFlight - this.#readable);
    let length = Math.min(room, bytes.length);
    if (length > 1 && this.#network.happens(faults.shortWrites)) {
      length = 1 + Math.floor(this.#network.random() * (length - 1));
    }
    if (length < bytes.length) this.#blockWriter(room > 0);
    for (let offset = 0; offset < length; offset += faults.maxSegment) {
      this.#send(Buffer.from(bytes.subarray(offset, Math.min(length, offset + faults.maxSegment))));
    }
    return length;
  }

  read(target: Buffer, offset: number, length: number): number {
    let wanted = Math.min(length, this.#readable);
    if (wanted > 1 && this.#network.happens(this.#network.faults.shortReads)) {
      wanted = 1 + Math.floor(this.#network.random() * (wanted - 1));
    }
    let done = 0;
    while (done < wanted) {
      const first = this.#received[0] as Buffer;
      const take = Math.min(first.length, wanted - done);
      first.copy(target, offset + done, 0, take);
      done += take;
      if (take === first.length) this.#received.shift();
      else this.#received[0] = first.subarray(take);
    }
    this.#readable -= done;
    if (this.#writerBlocked && done > 0) this.#unblockWriter();
    return done;
  }

  /** FIN, after everything that was written. */
  finish(): void {
    if (this.#finSent) return;
    this.#finSent = true;
    this.#arrive("fin", () => {
      if (this.#readerGone) return;
      this.#finArrived = true;
      this.#ends.onReadable();
    });
  }

  /** RST, after what is under way. */
  reset(): void {
    this.#finSent = true;
    this.#arrive("rst", () => this.#onReset());
  }

  /** The reader closes; true when it had not read everything: then a reset is due. */
  abandon(): boolean {
    this.#readerGone = true;
    const unread = this.#readable > 0;
    this.#received.length = 0;
    this.#readable = 0;
    return unread;
  }

  #send(bytes: Buffer): void {
    this.#network.record("bytes", this.#name, bytes);
    this.#network.onSegment?.(this.#ends.from, this.#ends.to, bytes);
    this.#inFlight += bytes.length;
    if (this.#network.happens(this.#network.faults.resets)) {
      // Something in between breaks the connection: both ends are told.
      this.reset();
      return this.#onRefused();
    }
    this.#arrive("segment", () => {
      this.#inFlight -= bytes.length;
      if (this.#resetArrived) return;
      if (this.#readerGone) return this.#onRefused();
      this.#received.push(bytes);
      this.#readable += bytes.length;
      this.#ends.onReadable();
    });
  }

  #onReset(): void {
    if (this.#resetArrived) return;
    this.#resetArrived = true;
    if (!this.#readerGone) this.#ends.onReadable();
  }

  #arrive(what: string, deliver: () => void): void {
    const at = this.#network.arrival(this.#ends.from, this.#ends.to, this.#lastArrival);
    this.#lastArrival = Math.max(this.#lastArrival, at);
    this.#network.scheduleAt(at, () => {
      this.#network.record(what, this.#name);
      deliver();
    });
  }

  #blockWriter(roomLeft: boolean): void {
    this.#writerBlocked = true;
    // A short write although there is room: the kernel would say at once that there is more.
    if (roomLeft) this.#unblockWriter();
  }

  #unblockWriter(): void {
    this.#writerBlocked = false;
    const at = this.#network.arrival(this.#ends.to, this.#ends.from, 0);
    this.#network.scheduleAt(at, this.#ends.onRoom);
  }
}
