import {
  canonicalIp,
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  OUTBOUND_PORT,
  parsePort,
} from "@tulle/base";
import { OPENING, OWN, rule, TO_APPLICATION } from "./matches.ts";
import { dnsZones, type ReturnPath, returnPath } from "./return-path.ts";
import type { Chain, Rule, Table, TableName } from "./ruleset.ts";

export interface PodRuleOptions {
  /** Capture IPv6 too; otherwise IPv6 TCP and UDP is dropped (loopback excepted). Default true. */
  readonly ipv6?: boolean;
  /** Send DNS over UDP and TCP to ztunnel. Default true. */
  readonly dnsCapture?: boolean;
  /** Leave inbound traffic alone (annotation `ambient.istio.io/bypass-inbound-capture`). Default false. */
  readonly ingressMode?: boolean;
  /** Devices whose incoming connections are outbound ones of the pod (annotation `istio.io/reroute-virtual-interfaces`). Default none. */
  readonly virtualInterfaces?: readonly string[];
  /** Addresses that health probes come from; they pass by ztunnel. Default 169.254.7.127 and its IPv6 counterpart. */
  readonly probeIps?: readonly string[];
  /**
   * TCP ports of the pod that health probes may reach; none: probes are not let past. Default: every port, and the pod may
   * open connections to the probe addresses, as upstream has it.
   */
  readonly probePorts?: readonly number[];
}

/** The rest of what decides: not a wish, but what the pod's kernel allows. */
export interface PodRuleVariant extends PodRuleOptions {
  /** Default `socket-mark`. */
  readonly returnPath?: ReturnPath;
}

/** HOST_PROBE_SNAT_IP and HOST_PROBE_SNAT_IPV6 of Istio's node agent. */
export const DEFAULT_PROBE_IPS: readonly string[] = ["169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"];

const NAME = "tulle-pod";
const IPV6_NAME = "tulle-pod-ipv6";
const DRAINING_NAME = "tulle-pod-draining";
/** Tables of a pod that is captured. */
export const CAPTURE_TABLES: readonly TableName[] = [
  { family: "inet", name: NAME },
  { family: "ip", name: NAME },
  { family: "inet", name: IPV6_NAME },
];
const DRAINING_TABLES: readonly TableName[] = [
  { family: "inet", name: DRAINING_NAME },
  { family: "ip", name: DRAINING_NAME },
];
/** Every table that a pod may have: what a change of variant has to remove. */
export const POD_TABLES: readonly TableName[] = [...CAPTURE_TABLES, ...DRAINING_TABLES];

/** IFNAMSIZ less the final zero, without what would end a word or a string of nft. */
const INTERFACE_NAME = /^[A-Za-z0-9_.:@-]{1,15}$/;
/** NF_IP_PRI_NAT_DST; nft knows its name `dstnat` in prerouting only. */
const NAT_PRIORITY = -100;

/**
 * The tables that capture a pod's traffic (spec: l4-ztunnel §1.7–1.9): TCP into 15001, plaintext for the pod into 15006,
 * DNS into 15053; ztunnel's own packets, loopback, the pod's own addresses and health probes pass. Throws RangeError for
 * an interface or address that is none.
 */
export function podRules(options: PodRuleVariant = {}): Table[] {
  const {
    ipv6 = true,
    dnsCapture = true,
    ingressMode = false,
    virtualInterfaces = [],
    probeIps = DEFAULT_PROBE_IPS,
    probePorts,
    returnPath: how = "socket-mark",
  } = options;
  for (const name of virtualInterfaces) {
    if (!isInterfaceName(name)) throw new RangeError(`${JSON.stringify(name)} is not the name of a network interface`);
  }
  const probes = probeIps.map((text) => {
    const ip = canonicalIp(text);
    if (ip === undefined) throw new RangeError(`the probe address ${JSON.stringify(text)} is not an IP address`);
    return ip;
  });
  for (const port of probePorts ?? []) {
    if (!parsePort(String(port))) throw new RangeError(`the probe port ${port} is not a TCP port`);
  }
  const inward = ingressMode ? undefined : fromProbes(probes, ipv6, probePorts);
  // Replies to probes belong to tracked connections: no rule looks at them.
  const outwardProbes = probePorts === undefined ? probes : [];
  const chains: Chain[] = [
    ...(dnsCapture ? dnsZones() : []),
    ...returnPath(how),
    {
      name: "nat-prerouting",
      type: "nat",
      hook: "prerouting",
      priority: NAT_PRIORITY,
      rules: [
        rule('iifname "lo" accept', "loopback and the pod's own addresses"),
        ...virtualInterfaces.flatMap((name) => [
          rule(
            `iifname "${name}" ${OPENING} counter redirect to :${OUTBOUND_PORT}`,
            "outbound, from behind a virtual interface",
          ),
          rule(`iifname "${name}" accept`, "virtual interface: nothing else"),
        ]),
        ...(inward === undefined
          ? []
          : [
              ...inward,
              rule(`tcp dport ${INBOUND_HBONE_PORT} accept`, "HBONE goes to ztunnel as it is"),
              rule(`${OPENING} counter redirect to :${INBOUND_PLAINTEXT_PORT}`, "plaintext for the pod"),
            ]),
      ],
    },
    {
      name: "nat-output",
      type: "nat",
      hook: "output",
      priority: NAT_PRIORITY,
      rules: [
        ...passOutward(outwardProbes, ipv6),
        ...(dnsCapture
          ? [
              rule(`udp dport 53 counter redirect to :${DNS_PORT}`, "DNS"),
              rule(`tcp dport 53 ${OPENING} counter redirect to :${DNS_PORT}`, "DNS over TCP"),
            ]
          : []),
        rule(`${OPENING} counter redirect to :${OUTBOUND_PORT}`, "outbound"),
      ],
    },
    ...noWayAround({ inward, virtualInterfaces, probes: outwardProbes, ipv6 }),
  ];
  const capture: Table = { family: ipv6 ? "inet" : "ip", name: NAME, chains };
  return ipv6 ? [capture] : [capture, droppedIpv6()];
}

/** Whether a text may stand in a rule as the name of an interface. */
export function isInterfaceName(name: string): boolean {
  return INTERFACE_NAME.test(name);
}

/**
 * What stays after removal while captured connections last: the return path of ztunnel's connections to the application,
 * and nat chains that redirect nothing. Translation of running connections works only as long as some nat chain is
 * registered, and some rule asks connection tracking for anything.
 */
export function drainingRules(ipv6: boolean, how: ReturnPath = "socket-mark"): Table[] {
  const nat = (hook: "prerouting" | "output"): Chain => ({
    name: `nat-${hook}`,
    type: "nat",
    hook,
    priority: NAT_PRIORITY,
    rules: [rule("ct state new counter accept", "no longer captured")],
  });
  const chains = [...returnPath(how), nat("prerouting"), nat("output")];
  return [{ family: ipv6 ? "inet" : "ip", name: DRAINING_NAME, chains }];
}

/**
 * A second look at what the nat chains let pass: nat is asked once per tracked connection, so a tracking entry from before
 * enrolment (or one that a peer provoked) would let a new connection with the same addresses by. Such a SYN is dropped, as
 * long as that entry lasts.
 */
function noWayAround(pod: {
  readonly inward: readonly Rule[] | undefined;
  readonly virtualInterfaces: readonly string[];
  readonly probes: readonly string[];
  readonly ipv6: boolean;
}): Chain[] {
  const { inward, virtualInterfaces, probes, ipv6 } = pod;
  // In two rules: a packet without a tracking entry has no status and matches neither test of it.
  const missed = (match: string) => [
    rule(`${match}${OPENING} ct status & dnat == dnat accept`, "redirected"),
    rule(`${match}${OPENING} counter drop`, "no new connection past ztunnel"),
  ];
  const chains: Chain[] = [
    {
      name: "filter-output",
      type: "filter",
      hook: "output",
      priority: "filter",
      rules: [...passOutward(probes, ipv6), ...missed("")],
    },
  ];
  if (inward === undefined && virtualInterfaces.length === 0) return chains;
  const own = [INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT].join(", ");
  chains.unshift({
    name: "filter-input",
    type: "filter",
    hook: "input",
    priority: "filter",
    rules: [
      rule('iifname "lo" accept', "loopback and the pod's own addresses"),
      ...virtualInterfaces.flatMap((name) => [
        rule(`iifname "${name}" tcp dport ${OUTBOUND_PORT} accept`, "ztunnel's own port"),
        ...missed(`iifname "${name}" `),
      ]),
      ...(inward === undefined
        ? []
        : [...inward, rule(`tcp dport { ${own} } accept`, "ztunnel's own ports"), ...missed("")]),
    ],
  });
  return chains;
}

function droppedIpv6(): Table {
  const chain = (hook: "input" | "output"): Chain => ({
    name: hook,
    type: "filter",
    hook,
    priority: "filter",
    rules: [
      rule(`${hook === "input" ? "iifname" : "oifname"} "lo" accept`, "loopback"),
      rule("meta nfproto ipv6 meta l4proto { tcp, udp } counter drop", "IPv6 cannot be captured here"),
    ],
  });
  return { family: "inet", name: IPV6_NAME, chains: [chain("input"), chain("output")] };
}

/** What may leave the pod without passing ztunnel. */
function passOutward(probes: readonly string[], ipv6: boolean): Rule[] {
  return [
    rule('oifname "lo" accept', "loopback and the pod's own addresses"),
    rule(`${OWN} accept`, "ztunnel's own packets"),
    rule(`${TO_APPLICATION} accept`, "the application's replies to ztunnel"),
    ...ofFamilies(probes, ipv6).map((ip) =>
      rule(`meta l4proto tcp ${family(ip)} daddr ${ip} accept`, "to health probes"),
    ),
  ];
}

function fromProbes(probes: readonly string[], ipv6: boolean, ports: readonly number[] | undefined): Rule[] {
  if (ports?.length === 0) return [];
  // Sorted and once each: equal sets make equal rules.
  const sorted = ports && [...new Set(ports)].sort((a, b) => a - b);
  const to = sorted === undefined ? "meta l4proto tcp" : `tcp dport { ${sorted.join(", ")} }`;
  return ofFamilies(probes, ipv6).map((ip) => rule(`${to} ${family(ip)} saddr ${ip} accept`, "health probes"));
}

function ofFamilies(ips: readonly string[], ipv6: boolean): string[] {
  return ips.filter((ip) => ipv6 || !ip.includes(":"));
}

function family(ip: string): "ip" | "ip6" {
  return ip.includes(":") ? "ip6" : "ip";
}
