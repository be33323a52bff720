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
import type { NetNamespace } from "../net-namespace.ts";
import { DEFAULT_PROBE_IPS } from "./pod-rules.ts";

/** TCP connections of a pod, by whether ztunnel has a part in them. */
export interface PodConnections<T> {
  /** Ends that ztunnel holds: they need the pod's connection tracking until they are gone. */
  readonly captured: number;
  /** Of these, ends that face the application: none left means that no captured connection is left, only tunnels between ztunnels. */
  readonly inUse: number;
  /**
   * The application's ends that pass by ztunnel: made before the rules, or between processes of the pod's own. The kernel
   * lists sockets one after the other, so there may be some among them that are captured: see `directConnections`.
   */
  readonly direct: readonly T[];
}

type Listed = Pick<SocketEntry, "local" | "peer" | "mark">;

/** Ports to which the application's own connections are redirected. */
const SERVES_APPLICATION = new Set<number>([OUTBOUND_PORT, DNS_PORT]);

/** And those from outside of the pod: each has a second end that goes on to the application. */
const FACES_APPLICATION = new Set<number>([...SERVES_APPLICATION, INBOUND_PLAINTEXT_PORT]);

/** Looks at every TCP socket of a namespace that has a peer. Throws SystemError. */
export function podConnections(
  namespace: NetNamespace,
  probeIps: readonly string[] = DEFAULT_PROBE_IPS,
): PodConnections<SocketEntry> {
  return classifyConnections(tcpSockets(namespace, CONNECTED_STATES), probeIps);
}

/**
 * Those that pass by ztunnel, for certain. Of a connection that is made while the kernel lists, the application's end may be
 * in the list and ztunnel's not. So whatever looks direct is looked for a second time, and must do so again: by then both
 * ends are there to be listed. `look` is `podConnections`, or a double.
 */
export function directConnections<T extends Pick<SocketEntry, "id">>(look: () => PodConnections<T>): readonly T[] {
  const first = look().direct;
  if (first.length === 0) return first;
  const before = new Set(first.map(({ id }) => id.toString("latin1")));
  return look().direct.filter(({ id }) => before.has(id.toString("latin1")));
}

/**
 * By their marks: ztunnel's sockets carry its own. Connections over loopback, between two sockets of the namespace, and with
 * health probes are not counted.
 */
export function classifyConnections<T extends Listed>(
  sockets: readonly T[],
  probeIps: readonly string[] = DEFAULT_PROBE_IPS,
): PodConnections<T> {
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
