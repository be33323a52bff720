import { Errno, SystemError } from "../errno.ts";
import type { NetNamespace } from "../net-namespace.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG, NetlinkSocket } from "./netlink-socket.ts";
import { rulesGeneration } from "./namespace-state.ts";
import { lookUpSocket } from "./tcp-sockets.ts";

/**
 * A look at a namespace that costs some microseconds, for what is looked at again and again: sockets to the kernel stay
 * open, addresses and routing are told of when they change, and single ports are asked for instead of listed.
 */
export class NamespaceProbe implements Disposable {
  readonly #events: NetlinkSocket;
  readonly #netfilter: NetlinkSocket;
  readonly #diag: NetlinkSocket;

  private constructor(events: NetlinkSocket, netfilter: NetlinkSocket, diag: NetlinkSocket) {
    this.#events = events;
    this.#netfilter = netfilter;
    this.#diag = diag;
  }

  /** Throws SystemError. */
  static open(namespace: NetNamespace): NamespaceProbe {
    return namespace.enter(() => {
      using opened = new DisposableStack();
      const events = opened.use(NetlinkSocket.openHere(NETLINK_ROUTE));
      events.subscribe(EVENTS);
      const netfilter = opened.use(NetlinkSocket.openHere(NETLINK_NETFILTER));
      const diag = opened.use(NetlinkSocket.openHere(NETLINK_SOCK_DIAG));
      opened.move();
      return new NamespaceProbe(events, netfilter, diag);
    });
  }

  /** Whether addresses, routes or policy rules may have changed since the last time. */
  routingChanged(): boolean {
    return this.#events.drain() > 0;
  }

  /** Grows with every change of any nftables rule; undefined: the kernel has no nf_tables. Throws SystemError. */
  rulesGeneration(): number | undefined {
    return rulesGeneration(this.#netfilter);
  }

  /**
   * The mark of the socket that would take a new TCP connection to (or a datagram for) this port on IPv4's loopback;
   * undefined: there is none. Throws SystemError.
   */
  markOf(protocol: "tcp" | "udp", port: number): number | undefined {
    try {
      return lookUpSocket(this.#diag, protocol, port).mark;
    } catch (error) {
      if (error instanceof SystemError && error.errno === Errno.ENOENT) return undefined;
      throw error;
    }
  }

  close(): void {
    this.#events.close();
    this.#netfilter.close();
    this.#diag.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** RTNLGRP_IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE and IPV6_RULE as bits (linux/rtnetlink.h). */
const EVENTS = [5, 7, 8, 9, 11, 19].reduce((bits, group) => bits | (1 << (group - 1)), 0);
