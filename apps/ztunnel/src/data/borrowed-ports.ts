import type { SocketAddress } from "@tulle/base";
import type { Namespace } from "@tulle/reactor";
import type { ThreadContext } from "./context.ts";

/** What connections there are in a pod's namespace; `ConnectionTable` of the linux package is one. */
export interface ConnectionTable {
  has(local: SocketAddress, peer: SocketAddress): boolean;
  close(): void;
}

/**
 * Neither what kernels give out by default (net.ipv4.ip_local_port_range) nor ztunnel's own, by which the pod's rules tell
 * its replies from connections that it makes. A port comes again after so many connections that TIME_WAIT is over, up to
 * some 270 new ones a second.
 */
const PORTS = { first: 16_384, count: 16_384 } as const;
/** Ports that are looked at; one of many thousands is taken seldom, several in a row hardly ever. */
const MAX_CHOICES = 4;

/**
 * From which port of the client's address a connection to the application comes. The kernel, which would choose among those
 * that it gives out, does not know that the client may have a connection with that port to the application past ztunnel,
 * from before the pod was captured, or make one while the pod leaves the mesh. Two with the same addresses and ports are
 * one to the application: nobody would answer the second.
 */
export class BorrowedPorts {
  readonly #context: ThreadContext;
  readonly #namespace: Namespace | undefined;
  #table: ConnectionTable | undefined;
  #next: number;

  constructor(context: ThreadContext, namespace: Namespace | undefined) {
    this.#context = context;
    this.#namespace = namespace;
    // Threads, and restarts, do not begin with the same ones.
    this.#next = Math.floor(context.reactor.random() * PORTS.count);
  }

  /** One that is free as far as can be seen; undefined: let the kernel choose. */
  choose(target: SocketAddress, clientIp: string): number | undefined {
    const table = this.#open();
    if (table === undefined) return undefined;
    for (let i = 0; i < MAX_CHOICES; i++) {
      const port = PORTS.first + this.#next;
      this.#next = (this.#next + 1) % PORTS.count;
      if (!isTaken(table, target, { ip: clientIp, port })) return port;
    }
    return undefined;
  }

  close(): void {
    this.#table?.close();
    this.#table = undefined;
  }

  #open(): ConnectionTable | undefined {
    if (this.#namespace === undefined) return undefined;
    try {
      this.#table ??= this.#context.openConnections?.(this.#namespace);
    } catch {
      // Out of descriptors: the connection itself will say so.
    }
    return this.#table;
  }
}

function isTaken(table: ConnectionTable, local: SocketAddress, peer: SocketAddress): boolean {
  try {
    return table.has(local, peer);
  } catch {
    // The kernel has no answer (inet_diag is not there): as without looking.
    return false;
  }
}
