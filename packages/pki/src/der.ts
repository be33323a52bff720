/** The little of DER (X.690) that a certificate request needs. */

const SEQUENCE = 0x30;
const SET = 0x31;
const BOOLEAN = 0x01;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;

export function sequence(...items: readonly Uint8Array[]): Uint8Array {
  return element(SEQUENCE, ...items);
}

export function set(...items: readonly Uint8Array[]): Uint8Array {
  return element(SET, ...items);
}

export const TRUE: Uint8Array = element(BOOLEAN, Uint8Array.of(0xff));

/** An integer from 0 to 127. */
export function smallInteger(value: number): Uint8Array {
  return element(INTEGER, Uint8Array.of(value));
}

export function octetString(content: Uint8Array): Uint8Array {
  return element(OCTET_STRING, content);
}

/** A bit string of whole bytes. */
export function bitString(content: Uint8Array): Uint8Array {
  return element(BIT_STRING, Uint8Array.of(0), content);
}

/** `1.2.840…` */
export function objectIdentifier(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  return element(OBJECT_IDENTIFIER, Uint8Array.from([first * 40 + second, ...rest.flatMap(base128)]));
}

/** `[number]`, constructed (explicit or a container) or primitive (implicit string). */
export function contextTag(number: number, constructed: boolean, content: Uint8Array): Uint8Array {
  return element(0x80 | (constructed ? 0x20 : 0) | number, content);
}

function element(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Uint8Array.from([tag, ...lengthBytes(length)]), ...content]);
}

function lengthBytes(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest >>>= 8) bytes.unshift(rest & 0xff);
  return [0x80 | bytes.length, ...bytes];
}

function base128(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift((rest & 0x7f) | 0x80);
  return bytes;
}
