/** Reads what `tcpdump -w -` writes: the classic pcap file format (pcap-savefile(5)), as it comes, in pieces. */

export interface CapturedFrame {
  /** Milliseconds since the epoch, with a fraction. */
  readonly timeMs: number;
  /** As much of the frame as was captured. */
  readonly bytes: Uint8Array;
  /** Its length on the wire. */
  readonly wireLength: number;
  /** LINKTYPE_…: 1 Ethernet, 276 Linux cooked v2 (what the device "any" gives). */
  readonly linkType: number;
}

const FILE_HEADER_BYTES = 24;
const FRAME_HEADER_BYTES = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
/** tcpdump's default snapshot length: a longer frame means that the stream is out of step. */
const MAX_FRAME_BYTES = 262_144;

export class PcapReader {
  #rest = Buffer.alloc(0);
  #file: { readonly littleEndian: boolean; readonly perMs: number; readonly linkType: number } | undefined;

  /** Takes the next piece and returns the frames that it completes. Throws RangeError on what is no pcap. */
  push(piece: Uint8Array): CapturedFrame[] {
    this.#rest = Buffer.concat([this.#rest, piece]);
    const frames: CapturedFrame[] = [];
    if (this.#file === undefined) {
      if (this.#rest.length < FILE_HEADER_BYTES) return frames;
      this.#file = readFileHeader(this.#rest);
      this.#rest = this.#rest.subarray(FILE_HEADER_BYTES);
    }
    const { littleEndian, perMs, linkType } = this.#file;
    const word = (at: number) => (littleEndian ? this.#rest.readUInt32LE(at) : this.#rest.readUInt32BE(at));
    while (this.#rest.length >= FRAME_HEADER_BYTES) {
      const length = word(8);
      if (length > MAX_FRAME_BYTES)
        throw new RangeError(`a captured frame of ${length} bytes: the stream is out of step`);
      if (this.#rest.length < FRAME_HEADER_BYTES + length) break;
      frames.push({
        timeMs: word(0) * 1000 + word(4) / perMs,
        bytes: Uint8Array.from(this.#rest.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + length)),
        wireLength: word(12),
        linkType,
      });
      this.#rest = this.#rest.subarray(FRAME_HEADER_BYTES + length);
    }
    return frames;
  }
}

function readFileHeader(bytes: Buffer) {
  for (const littleEndian of [true, false]) {
    const word = (at: number) => (littleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
    const magic = word(0);
    if (magic !== MAGIC_MICROSECONDS && magic !== MAGIC_NANOSECONDS) continue;
    // The upper bits of the last word tell about checksums.
    return { littleEndian, perMs: magic === MAGIC_MICROSECONDS ? 1000 : 1_000_000, linkType: word(20) & 0xffff };
  }
  throw new RangeError("this is no pcap file");
}
