import {
  DNS_PORT,
  isLoopback,
  MARK_MASK,
  OUTBOUND_PORT,
  PACKET_MARK,
  parseSocketAddress,
  type SocketAddress,
} from "@tulle/base";
import { run } from "./command.ts";
import { DEFAULT_PROBE_IPS } from "./pod-rules.ts";

/** TCP connections of a pod, by whether ztunnel has a part in them. */
export interface PodConnections {
  /** Ends that ztunnel holds: they need the pod's connection tracking until they are gone. */
  readonly captured: number;
  /** Connections of the application that pass by ztunnel: made before the rules, or between processes of the pod's own. */
  readonly direct: readonly DirectConnection[];
}

export interface DirectConnection {
  readonly local: SocketAddress;
  readonly peer: SocketAddress;
}

/** A connected socket as `ss` lists it. */
interface SocketLine extends DirectConnection {
  readonly mark: number;
}

/** Ports to which the application's own connections are redirected. */
const SERVES_APPLICATION = new Set<number>([OUTBOUND_PORT, DNS_PORT]);
/** Nothing is left of these but their names. */
const NOT_CONNECTED = new Set(["LISTEN", "UNCONN", "TIME-WAIT"]);

/**
 * Looks at every TCP socket of a namespace (ss(8); ztunnel's carry its mark). Connections over loopback, between two
 * sockets of the namespace, and with health probes are not counted. Throws CommandError.
 */
export async function podConnections(
  namespace: string,
  probeIps: readonly string[] = DEFAULT_PROBE_IPS,
): Promise<PodConnections> {
  return classifyConnections(await run("ss", ["-H", "-t", "-a", "-n", "-e"], { namespace }), probeIps);
}

/** Exported for tests: `listing` is what `ss -Htane` prints. */
export function classifyConnections(listing: string, probeIps: readonly string[]): PodConnections {
  const sockets = listing.split("\n").flatMap(parseLine);
  const own = sockets.filter(({ mark }) => (mark & MARK_MASK) === PACKET_MARK);
  /** The application's ends that talk to ztunnel, whatever address they believe to talk to. */
  const served = new Set(own.filter(({ local }) => SERVES_APPLICATION.has(local.port)).map(({ peer }) => key(peer)));
  const locals = new Set(sockets.map(({ local, peer }) => pair(local, peer)));
  const direct = sockets.filter(
    ({ local, peer, mark }) =>
      (mark & MARK_MASK) !== PACKET_MARK &&
      !isLoopback(peer.ip) &&
      !probeIps.includes(peer.ip) &&
      !served.has(key(local)) &&
      !locals.has(pair(peer, local)),
  );
  return { captured: own.length, direct: direct.map(({ local, peer }) => ({ local, peer })) };
}

/** `ESTAB 0 0 10.0.0.1:80 [::ffff:10.0.0.2]:5000 uid:0 ino:1 sk:2 fwmark:0x539 <->`; none for what is not connected. */
function parseLine(line: string): SocketLine[] {
  const [state, , , localText = "", peerText = "", ...details] = line.trim().split(/\s+/);
  if (state === undefined || NOT_CONNECTED.has(state)) return [];
  const local = parseSocketAddress(localText);
  const peer = parseSocketAddress(peerText);
  if (local === undefined || peer === undefined) return [];
  const mark = details.find((word) => word.startsWith("fwmark:"))?.slice("fwmark:".length);
  return [{ local, peer, mark: mark === undefined ? 0 : Number(mark) }];
}

function key({ ip, port }: SocketAddress): string {
  return `${ip} ${port}`;
}

function pair(a: SocketAddress, b: SocketAddress): string {
  return `${key(a)} ${key(b)}`;
}
