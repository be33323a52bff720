/** Type, version, length (RFC 8446 §5.1). */
const RECORD_HEADER = 5;
/** change_cipher_spec … application_data. */
const FIRST_TYPE = 20;
const LAST_TYPE = 23;
const VERSION_MAJOR = 3;
/** 2^14 + 256 (RFC 8446 §5.2). */
const MAX_CIPHERTEXT = 16_640;

/**
 * Where the last whole TLS record of `bytes[start, end)` ends; a record begins at `start`. What cannot be TLS counts as
 * whole: the engine shall see it and say what is wrong.
 */
export function wholeRecords(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end) {
    const type = bytes[at]!;
    if (type < FIRST_TYPE || type > LAST_TYPE) return end;
    if (end - at < RECORD_HEADER) return at;
    const length = (bytes[at + 3]! << 8) | bytes[at + 4]!;
    if (bytes[at + 1] !== VERSION_MAJOR || length > MAX_CIPHERTEXT) return end;
    if (end - at < RECORD_HEADER + length) return at;
    at += RECORD_HEADER + length;
  }
  return at;
}
