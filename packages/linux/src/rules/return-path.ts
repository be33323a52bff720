import {
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MARK_MASK,
  OUTBOUND_PORT,
  PACKET_MARK,
  TPROXY_MARK,
} from "@tulle/base";
import { hex, OWN, rule, TO_APPLICATION } from "./matches.ts";
import type { Chain } from "./ruleset.ts";

/**
 * How the application's replies are known that have to go back to ztunnel.
 * - `socket-mark`: the application's end of a connection takes over the mark of the SYN (net.ipv4.tcp_fwmark_accept), a
 *   refusal that of what it refuses (fwmark_reflect), and ztunnel's own connections are not tracked. Tracking knows only
 *   addresses and ports, and those of ztunnel's connection (the client's) may be just those of a captured one.
 * - `connection-mark`: connection tracking remembers it, as upstream has it. Where those settings cannot be made.
 */
export type ReturnPath = "socket-mark" | "connection-mark";

/** Ports on which ztunnel accepts: redirected connections are tracked in both directions. */
const ACCEPTING = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT, DNS_PORT].join(", ");
/** Marks of others stay. */
const OTHER_BITS = hex(0xffffffff ^ MARK_MASK);

/**
 * Replies of the application go to an address that ztunnel has only borrowed. They carry, or get, the mark that routes
 * them back to the local stack (table 100, see pod-routing.ts).
 */
export function returnPath(how: ReturnPath): Chain[] {
  return how === "socket-mark" ? bySocket() : byConnection();
}

function bySocket(): Chain[] {
  return [
    {
      name: "mark-prerouting",
      type: "filter",
      hook: "prerouting",
      priority: "raw",
      rules: [
        rule(
          `iifname "lo" ${OWN} ct state untracked counter meta mark set meta mark & ${OTHER_BITS} | ${hex(TPROXY_MARK)}`,
          "the application answers ztunnel's connections with this mark",
        ),
        // With a mark that is taken for ztunnel's own they would not be translated.
        rule(
          `iifname "lo" ${OWN} meta l4proto tcp counter meta mark set meta mark & ${OTHER_BITS}`,
          "and captured connections with none",
        ),
      ],
    },
    {
      name: "untracked-output",
      type: "filter",
      hook: "output",
      priority: "raw",
      rules: [
        rule(`${OWN} tcp sport != { ${ACCEPTING} } counter notrack`, "connections that ztunnel makes"),
        rule(`${TO_APPLICATION} meta l4proto tcp counter notrack`, "the application's replies to ztunnel"),
      ],
    },
  ];
}

function byConnection(): Chain[] {
  return [
    {
      name: "mark-prerouting",
      type: "filter",
      hook: "prerouting",
      priority: "mangle",
      rules: [
        rule(
          `${OWN} counter ct mark set ct mark & ${OTHER_BITS} | ${hex(TPROXY_MARK)}`,
          "remember connections that ztunnel makes to the application",
        ),
      ],
    },
    {
      name: "mark-output",
      type: "route",
      hook: "output",
      priority: "mangle",
      rules: [
        rule(
          `ct mark & ${hex(MARK_MASK)} == ${hex(TPROXY_MARK)} counter meta mark set ct mark`,
          "the application's replies go back to ztunnel",
        ),
      ],
    },
  ];
}

/** UDP zone of ztunnel's own queries: the application's may have the same addresses and ports (istio/istio#33469). */
const DNS_ZONE = 1;

/** Keeps ztunnel's DNS queries and the application's apart. */
export function dnsZones(): Chain[] {
  const mark = `meta mark & ${hex(MARK_MASK)}`;
  return [
    {
      name: "zone-prerouting",
      type: "filter",
      hook: "prerouting",
      priority: "raw",
      rules: [
        rule(
          `udp sport 53 ${mark} != ${hex(PACKET_MARK)} counter ct zone set ${DNS_ZONE}`,
          "answers to ztunnel's queries",
        ),
      ],
    },
    {
      name: "zone-output",
      type: "filter",
      hook: "output",
      priority: "raw",
      rules: [rule(`udp dport 53 ${OWN} counter ct zone set ${DNS_ZONE}`, "ztunnel's queries")],
    },
  ];
}
