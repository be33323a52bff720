/** The part of dns-packet that is used here; the package brings no types. */
declare module "dns-packet" {
  export interface Question {
    readonly type: string;
    readonly class?: string;
    readonly name: string;
  }
  export interface Answer {
    readonly type: string;
    readonly class?: string;
    readonly name: string;
    readonly ttl?: number;
    readonly data?: unknown;
  }
  export interface Packet {
    readonly id?: number;
    readonly type?: "query" | "response";
    readonly opcode?: string;
    readonly rcode?: string;
    readonly flags?: number;
    readonly questions?: readonly Question[];
    readonly answers?: readonly Answer[];
  }
  /** Throws on malformed input. */
  export function decode(bytes: Uint8Array): Packet;
  export function encode(packet: Packet): Buffer;
  export const AUTHORITATIVE_ANSWER: number;
  export const RECURSION_DESIRED: number;
  export const RECURSION_AVAILABLE: number;
}
