import {
  DNS_PORT,
  INBOUND_PLAINTEXT_PORT,
  isLoopback,
  MARK_MASK,
  OUTBOUND_PORT,
  PACKET_MARK,
  type SocketAddress,
} from "@tulle/base";
import { CONNECTED_STATES, type SocketEntry, tcpSockets } from "../netlink/tcp-sockets.ts";
import { NetNamespace } from "../net-namespace.ts";
import { DEFAULT_PROBE_IPS } from "./pod-rules.ts";

/** TCP connections of a pod, by whether ztunnel has a part in them. */
export interface PodConnections {
  /** Ends that ztunnel holds: they need the pod's connection tracking until they are gone. */
  readonly captured: number;
  /** Of these, ends that face the application: none left means that no captured connection is left, only tunnels between ztunnels. */
  readonly inUse: number;
  /** Connections of the application that pass by ztunnel: made before the rules, or between processes of the pod's own. */
  readonly direct: readonly DirectConnection[];
}

export interface DirectConnection {
  readonly local: SocketAddress;
  readonly peer: SocketAddress;
}

/** Ports to which the application's own connections are redirected. */
const SERVES_APPLICATION = new Set<number>([OUTBOUND_PORT, DNS_PORT]);

/** And those from outside of the pod: each has a second end that goes on to the application. */
const FACES_APPLICATION = new Set<number>([...SERVES_APPLICATION, INBOUND_PLAINTEXT_PORT]);

/**
 * Looks at every TCP socket of a namespace (ztunnel's carry its mark). Connections over loopback, between two sockets of
 * the namespace, and with health probes are not counted. Throws SystemError.
 */
export function podConnections(namespace: string, probeIps: readonly string[] = DEFAULT_PROBE_IPS): PodConnections {
  using opened = NetNamespace.open(namespace);
  const { captured, inUse, direct } = classifyConnections(() => tcpSockets(opened, CONNECTED_STATES), probeIps);
  return { captured, inUse, direct: direct.map(({ local, peer }) => ({ local, peer })) };
}

type Listed = Pick<SocketEntry, "local" | "peer" | "mark" | "id">;

interface Classified<T> {
  readonly captured: number;
  readonly inUse: number;
  readonly direct: readonly T[];
}

/**
 * As `podConnections`, with the entries. The kernel lists sockets one after the other: of a connection that is made
 * meanwhile it may show the application's end and not ztunnel's. So whatever looks direct is looked for a second time, and
 * must do so again: by then both ends are there to be listed.
 */
export function classifyConnections<T extends Listed>(
  list: () => readonly T[],
  probeIps: readonly string[] = DEFAULT_PROBE_IPS,
): Classified<T> {
  const first = classify(list(), probeIps);
  if (first.direct.length === 0) return first;
  const before = new Set(first.direct.map(({ id }) => id.toString("latin1")));
  const { direct, ...counts } = classify(list(), probeIps);
  return { ...counts, direct: direct.filter(({ id }) => before.has(id.toString("latin1"))) };
}

function classify<T extends Listed>(sockets: readonly T[], probeIps: readonly string[]): Classified<T> {
  const locals = new Set(sockets.map(({ local, peer }) => pair(local, peer)));
  const own = sockets.filter(({ mark }) => (mark & MARK_MASK) === PACKET_MARK);
  const inUse = own.filter(
    ({ local, peer }) => FACES_APPLICATION.has(local.port) || locals.has(pair(peer, local)),
  ).length;
  /** The application's ends that talk to ztunnel, whatever address they believe to talk to. */
  const served = new Set(own.filter(({ local }) => SERVES_APPLICATION.has(local.port)).map(({ peer }) => key(peer)));
  const direct = sockets.filter(
    ({ local, peer, mark }) =>
      (mark & MARK_MASK) !== PACKET_MARK &&
      !isLoopback(peer.ip) &&
      !probeIps.includes(peer.ip) &&
      !served.has(key(local)) &&
      !locals.has(pair(peer, local)),
  );
  return { captured: own.length, inUse, direct };
}

function key({ ip, port }: SocketAddress): string {
  return `${ip} ${port}`;
}

function pair(a: SocketAddress, b: SocketAddress): string {
  return `${key(a)} ${key(b)}`;
}
