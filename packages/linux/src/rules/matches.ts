import { MARK_MASK, PACKET_MARK, TPROXY_MARK } from "@tulle/base";
import type { Rule } from "./ruleset.ts";

/** Words of nft that several of a pod's chains use. */

/**
 * An opening SYN and nothing else. A connection that nothing tracked before looks new in its middle: its next packet would
 * be redirected, and ztunnel's kernel would answer with a reset.
 */
export const OPENING = "tcp flags & (fin | syn | rst | ack) == syn";
/** Packets of ztunnel's sockets. */
export const OWN = `meta mark & ${hex(MARK_MASK)} == ${hex(PACKET_MARK)}`;
/** Packets of the application that go back to ztunnel. */
export const TO_APPLICATION = `meta mark & ${hex(MARK_MASK)} == ${hex(TPROXY_MARK)}`;

export function rule(text: string, comment: string): Rule {
  return { text, comment };
}

/** As an unsigned word. */
export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
