import { ipToBytes, isIpv6, type SocketAddress } from "@tulle/base";
import { ipFromWords } from "../address-buffer.ts";
import { AF_INET, AF_INET6 } from "../constants.ts";
import { Errno, SystemError } from "../errno.ts";
import type { NetNamespace } from "../net-namespace.ts";
import { attributesOf, u32 } from "./message.ts";
import { NETLINK_SOCK_DIAG, NetlinkSocket } from "./netlink-socket.ts";

/** Sockets of a network namespace, as the kernel lists them (sock_diag(7), linux/inet_diag.h). */

export interface SocketEntry {
  readonly state: number;
  readonly local: SocketAddress;
  /** Port 0 when there is none. */
  readonly peer: SocketAddress;
  /** SO_MARK. */
  readonly mark: number;
  /** What names this very socket to the kernel: family and `struct inet_diag_sockid`. */
  readonly id: Buffer;
}

/** linux/tcp_states.h; an UDP socket without a peer is CLOSE. */
export const TcpState = {
  ESTABLISHED: 1,
  SYN_SENT: 2,
  SYN_RECV: 3,
  FIN_WAIT1: 4,
  FIN_WAIT2: 5,
  TIME_WAIT: 6,
  CLOSE: 7,
  CLOSE_WAIT: 8,
  LAST_ACK: 9,
  LISTEN: 10,
  CLOSING: 11,
} as const;

/** States in which two ends exist or come to exist; of TIME_WAIT only the name is left. */
export const CONNECTED_STATES: readonly number[] = [
  TcpState.ESTABLISHED,
  TcpState.SYN_SENT,
  TcpState.SYN_RECV,
  TcpState.FIN_WAIT1,
  TcpState.FIN_WAIT2,
  TcpState.CLOSE_WAIT,
  TcpState.LAST_ACK,
  TcpState.CLOSING,
];

const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const INET_DIAG_MARK = 15;
/** `struct inet_diag_req_v2`: family, protocol, extensions, states, then the socket's id. */
const REQUEST = { family: 0, protocol: 1, states: 4, id: 8, size: 56 } as const;
/** `struct inet_diag_msg`, and within it `struct inet_diag_sockid` from `id` to `idEnd`. */
const ENTRY = { family: 0, state: 1, id: 4, idEnd: 52, size: 72 } as const;
const SOCKID = { sourcePort: 0, destinationPort: 2, source: 4, destination: 20, cookie: 40, end: 48 } as const;
const LOOPBACK = [127, 0, 0, 1];

/** TCP sockets of both families in these states. Throws SystemError. */
export function tcpSockets(namespace: NetNamespace, states: readonly number[]): SocketEntry[] {
  return list(namespace, IPPROTO_TCP, states);
}

/** UDP sockets without a peer. Throws SystemError. */
export function udpSockets(namespace: NetNamespace): SocketEntry[] {
  return list(namespace, IPPROTO_UDP, [TcpState.CLOSE]);
}

/**
 * Resets connections, whoever owns them: both ends see a reset. Returns how many there were; one that has ended meanwhile
 * is none. Throws SystemError (EOPNOTSUPP: the kernel is built without INET_DIAG_DESTROY).
 */
export function destroyTcpSockets(namespace: NetNamespace, sockets: readonly SocketEntry[]): number {
  using diag = NetlinkSocket.open(NETLINK_SOCK_DIAG, namespace);
  let destroyed = 0;
  for (const { id } of sockets) {
    const request = Buffer.alloc(REQUEST.size);
    request[REQUEST.family] = id[0] ?? 0;
    request[REQUEST.protocol] = IPPROTO_TCP;
    request.writeUInt32LE(0xffffffff, REQUEST.states);
    request.set(id.subarray(1), REQUEST.id);
    const result = diag.change(SOCK_DESTROY, 0, request);
    if (result === 0) destroyed++;
    else if (result !== -Errno.ENOENT) throw new SystemError("reset a connection", result);
  }
  return destroyed;
}

/** The socket that would take what comes for a port on 127.0.0.1, from anywhere. Throws SystemError (ENOENT: none). */
export function lookUpSocket(diag: NetlinkSocket, protocol: "tcp" | "udp", port: number): SocketEntry {
  const request = Buffer.alloc(REQUEST.size);
  request[REQUEST.family] = AF_INET;
  request[REQUEST.protocol] = protocol === "tcp" ? IPPROTO_TCP : IPPROTO_UDP;
  request.writeUInt32LE(0xffffffff, REQUEST.states);
  // For UDP the kernel takes the two ends the other way round, for historical reasons.
  const [portAt, addressAt] =
    protocol === "tcp" ? [SOCKID.sourcePort, SOCKID.source] : [SOCKID.destinationPort, SOCKID.destination];
  request.writeUInt16BE(port, REQUEST.id + portAt);
  request.set(LOOPBACK, REQUEST.id + addressAt);
  // Whichever socket it is.
  request.fill(0xff, REQUEST.id + SOCKID.cookie, REQUEST.id + SOCKID.end);
  return entryOf(diag.ask(SOCK_DIAG_BY_FAMILY, request).payload);
}

/** Asks whether single TCP connections exist in a namespace, for some microseconds each. */
export class ConnectionTable implements Disposable {
  readonly #diag: NetlinkSocket;

  private constructor(diag: NetlinkSocket) {
    this.#diag = diag;
  }

  /** Throws SystemError. */
  static open(namespace: NetNamespace): ConnectionTable {
    return new ConnectionTable(NetlinkSocket.open(NETLINK_SOCK_DIAG, namespace));
  }

  /** Whether there is an end with these addresses (canonical, of one family) in any state, TIME_WAIT too. Throws SystemError. */
  has(local: SocketAddress, peer: SocketAddress): boolean {
    const [source, destination] = [ipToBytes(local.ip), ipToBytes(peer.ip)];
    if (source === undefined || source.length !== destination?.length) return false;
    const request = Buffer.alloc(REQUEST.size);
    request[REQUEST.family] = isIpv6(local.ip) ? AF_INET6 : AF_INET;
    request[REQUEST.protocol] = IPPROTO_TCP;
    request.writeUInt32LE(0xffffffff, REQUEST.states);
    request.writeUInt16BE(local.port, REQUEST.id + SOCKID.sourcePort);
    request.writeUInt16BE(peer.port, REQUEST.id + SOCKID.destinationPort);
    request.set(source, REQUEST.id + SOCKID.source);
    request.set(destination, REQUEST.id + SOCKID.destination);
    request.fill(0xff, REQUEST.id + SOCKID.cookie, REQUEST.id + SOCKID.end);
    try {
      // Without a connection the kernel names the socket that would take one.
      return this.#diag.ask(SOCK_DIAG_BY_FAMILY, request).payload[ENTRY.state] !== TcpState.LISTEN;
    } catch (error) {
      if (error instanceof SystemError && error.errno === Errno.ENOENT) return false;
      throw error;
    }
  }

  close(): void {
    this.#diag.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function list(namespace: NetNamespace, protocol: number, states: readonly number[]): SocketEntry[] {
  using diag = NetlinkSocket.open(NETLINK_SOCK_DIAG, namespace);
  const entries: SocketEntry[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const request = Buffer.alloc(REQUEST.size);
    request[REQUEST.family] = family;
    request[REQUEST.protocol] = protocol;
    request.writeUInt32LE(
      states.reduce((bits, state) => bits | (1 << state), 0),
      REQUEST.states,
    );
    for (const { payload } of diag.dump(SOCK_DIAG_BY_FAMILY, request)) {
      if (payload.length >= ENTRY.size) entries.push(entryOf(payload));
    }
  }
  return entries;
}

function entryOf(payload: Buffer): SocketEntry {
  const family = payload[ENTRY.family] ?? 0;
  const id = payload.subarray(ENTRY.id, ENTRY.idEnd);
  return {
    state: payload[ENTRY.state] ?? 0,
    local: addressOf(family, id, SOCKID.source, SOCKID.sourcePort),
    peer: addressOf(family, id, SOCKID.destination, SOCKID.destinationPort),
    mark: u32(attributesOf(payload, ENTRY.size).get(INET_DIAG_MARK)) ?? 0,
    id: Buffer.concat([Buffer.of(family), id]),
  };
}

function addressOf(family: number, id: Buffer, address: number, port: number): SocketAddress {
  const words = [0, 4, 8, 12].map((at) => id.readInt32LE(address + at)) as [number, number, number, number];
  const [a, b, c, d] = words;
  const ip = family === AF_INET ? [...id.subarray(address, address + 4)].join(".") : ipFromWords(a, b, c, d);
  return { ip, port: id.readUInt16BE(port) };
}
