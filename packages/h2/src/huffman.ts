import { ErrorCode, Http2Error } from "./error.ts";

/**
 * Lengths in bits of the codes for the octets 0–255 and for EOS (RFC 7541 appendix B). The code is canonical: within one
 * length, codes count up in the order of the octets, so the lengths say everything.
 */
const LENGTHS =
  "13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 " +
  "7*22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 " +
  "22 23*5 24 23 24*2 22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 " +
  "22 21 23 22 23*2 20 22*3 23 22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26 27*2 26 27 24 " +
  "21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2 24*2 26 23 26 27 26*2 27*5 28 27*5 26 30";

const EOS = 256;
/** Padding may be at most seven bits long, all ones (RFC 7541 §5.2). */
const MAX_PADDING_BITS = 7;

const lengths = new Uint8Array(EOS + 1);
const codes = new Uint32Array(EOS + 1);

/**
 * The decoder takes four bits at a time. An entry is `next state << 10 | emits << 9 | fails << 8 | octet`; a code is at
 * least five bits long, so four bits finish at most one.
 */
const STATE_SHIFT = 10;
const EMITS = 0x200;
const FAILS = 0x100;
/** `endings`: whether a string may end in this state. */
const { transitions, endings } = buildTables();

/** How many bytes `text` (latin1) takes when it is Huffman coded. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += lengths[text.charCodeAt(i) & 0xff]!;
  return (bits + 7) >>> 3;
}

/** Writes `text` (latin1) to `target` from `offset` on; returns the offset behind it. The caller has made room. */
export function huffmanEncode(text: string, target: Uint8Array, offset: number): number {
  let pending = 0;
  let count = 0;
  let at = offset;
  for (let i = 0; i < text.length; i++) {
    const octet = text.charCodeAt(i) & 0xff;
    let length = lengths[octet]!;
    let code = codes[octet]!;
    if (length > 24) {
      // Up to seven bits are pending: a code of 30 would not fit into 32, so its head goes first.
      const head = length - 16;
      pending = (pending << head) | (code >>> 16);
      count += head;
      while (count >= 8) target[at++] = pending >>> (count -= 8);
      code &= 0xffff;
      length = 16;
    }
    pending = (pending << length) | code;
    count += length;
    while (count >= 8) target[at++] = pending >>> (count -= 8);
  }
  if (count > 0) target[at++] = (pending << (8 - count)) | (0xff >>> count);
  return at;
}

/**
 * Decodes `source[start, end)` into `target` from 0 on and returns the length. `target` must have room for
 * `ceil((end - start) * 8 / 5)` bytes. Throws Http2Error COMPRESSION_ERROR for EOS and for wrong padding.
 */
export function huffmanDecode(source: Uint8Array, start: number, end: number, target: Uint8Array): number {
  let state = 0;
  let length = 0;
  for (let i = start; i < end; i++) {
    const octet = source[i]!;
    const first = transitions[(state << 4) | (octet >>> 4)]!;
    if (first & EMITS) target[length++] = first;
    const second = transitions[((first >>> STATE_SHIFT) << 4) | (octet & 15)]!;
    if (second & EMITS) target[length++] = second;
    if ((first | second) & FAILS) throw new Http2Error(ErrorCode.COMPRESSION_ERROR, "a Huffman string holds EOS");
    state = second >>> STATE_SHIFT;
  }
  if (endings[state] === 0) throw new Http2Error(ErrorCode.COMPRESSION_ERROR, "a Huffman string has wrong padding");
  return length;
}

function buildTables(): { transitions: Uint32Array; endings: Uint8Array } {
  let octet = 0;
  for (const run of LENGTHS.split(" ")) {
    const [length = 0, times = 1] = run.split("*").map(Number);
    lengths.fill(length, octet, octet + times);
    octet += times;
  }
  let code = 0;
  for (let length = 5; length <= 30; length++) {
    for (let o = 0; o <= EOS; o++) if (lengths[o] === length) codes[o] = code++;
    code <<= 1;
  }
  // A binary tree: node n has its children at 2n and 2n+1; a leaf is stored as the complement of its octet.
  const tree: number[] = [0, 0];
  const depths: number[] = [0];
  const onlyOnes: boolean[] = [true];
  for (let o = 0; o <= EOS; o++) {
    let node = 0;
    for (let bit = lengths[o]! - 1; bit >= 0; bit--) {
      const one = (codes[o]! >>> bit) & 1;
      const slot = node * 2 + one;
      if (bit === 0) tree[slot] = ~o;
      else {
        if (tree[slot] === 0) {
          tree[slot] = tree.length / 2;
          depths.push(depths[node]! + 1);
          onlyOnes.push(onlyOnes[node]! && one === 1);
          tree.push(0, 0);
        }
        node = tree[slot]!;
      }
    }
  }
  const transitions = new Uint32Array((tree.length / 2) * 16);
  for (let state = 0; state < tree.length / 2; state++) {
    for (let nibble = 0; nibble < 16; nibble++) transitions[state * 16 + nibble] = follow(tree, state, nibble);
  }
  const endings = Uint8Array.from(depths, (depth, state) => (depth <= MAX_PADDING_BITS && onlyOnes[state] ? 1 : 0));
  return { transitions, endings };
}

function follow(tree: readonly number[], state: number, nibble: number): number {
  let node = state;
  let emitted = 0;
  for (let bit = 3; bit >= 0; bit--) {
    const next = tree[node * 2 + ((nibble >>> bit) & 1)]!;
    if (next >= 0) node = next;
    else if (~next === EOS) return FAILS;
    else {
      emitted = EMITS | ~next;
      node = 0;
    }
  }
  return (node << STATE_SHIFT) | emitted;
}
