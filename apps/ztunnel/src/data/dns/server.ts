import type { SocketAddress } from "@tulle/base";
import { Errno, NativeBuffer, SystemError } from "@tulle/linux";
import { resolveDns } from "@tulle/mesh";
import type { Connection, DatagramSocket, Listener } from "@tulle/reactor";
import { AGAIN } from "@tulle/reactor";
import type { DnsSeries } from "@tulle/telemetry";
import type { DnsSettings } from "../../protocol.ts";
import type { PodProxy } from "../pod-proxy.ts";
import { Forwarder, MAX_MESSAGE } from "./forwarder.ts";
import { upstreamAddresses } from "./lookup.ts";
import {
  encodeAnswer,
  encodeRefusal,
  parseQuery,
  type Query,
  RCODE_OK,
  RCODE_SERVER_FAILURE,
  TYPE_A,
  TYPE_AAAA,
  udpLimit,
} from "./message.ts";
import { DnsStream } from "./stream.ts";

/** How long clients may keep an answer from the mesh's own state (spec: l4-ztunnel §8). */
const LOCAL_TTL_SECONDS = 30;
/** DNS connections of one pod at a time; more are reset. */
const MAX_STREAMS = 64;
/** How often it is seen whether everything is answered: some turns of the loop, in which waiting datagrams are taken. */
const DRAIN_LOOK_MS = 20;

export type Transport = "udp" | "tcp";

/**
 * The DNS proxy of one pod (spec: l4-ztunnel §8): answers what the mesh knows, forwards the rest to our own nameservers
 * from the pod's namespace.
 */
export class DnsServer {
  readonly #proxy: PodProxy;
  readonly #settings: DnsSettings;
  readonly #forwarder: Forwarder;
  readonly #sockets: DatagramSocket[] = [];
  readonly #listeners: Listener[] = [];
  readonly #streams = new Set<DnsStream>();
  readonly #buffer = NativeBuffer.alloc(MAX_MESSAGE);
  #closed = false;

  /** Binds its sockets, or throws the reason and leaves none open. */
  constructor(proxy: PodProxy, settings: DnsSettings) {
    this.#proxy = proxy;
    this.#settings = settings;
    const { reactor, settings: thread } = proxy.context;
    this.#forwarder = new Forwarder({
      reactor,
      namespace: proxy.namespace,
      mark: thread.packetMark,
      upstreams: upstreamAddresses(settings),
      timeoutMs: settings.timeoutMs,
      attempts: settings.attempts,
      observe: {
        onUpstreamRequest: (query) => this.#series(query, "udp").upstreamRequest(),
        onUpstreamFailure: (query) => this.#series(query, "udp").upstreamFailure(),
        onUpstreamAnswer: (query, seconds) => this.#series(query, "udp").upstreamDuration(seconds),
      },
    });
    try {
      this.#bind({ ip: settings.ip ?? "127.0.0.1", port: settings.port });
      if (settings.ip === undefined && thread.ipv6) this.#bindV6();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Answers one message; `respond` is called once, or never when there is nothing to answer to. */
  handle(message: Uint8Array, transport: Transport, respond: (answer: Uint8Array) => void): void {
    const parsed = parseQuery(message);
    if (parsed.kind === "drop") return;
    if (parsed.kind === "refuse") return respond(encodeRefusal(parsed.id, parsed.code, parsed.recursionDesired));
    const { query } = parsed;
    this.#series(query, transport).request();
    const limit = transport === "udp" ? udpLimit(query) : MAX_MESSAGE;
    const answerWith = (code: number, authoritative: boolean, addresses: readonly string[], cname?: string) =>
      respond(encodeAnswer(query, { code, authoritative, addresses, cname, ttlSeconds: LOCAL_TTL_SECONDS }, limit));

    const { state, settings, reactor } = this.#proxy.context;
    const client = this.#proxy.localWorkload();
    if (client === undefined) return answerWith(RCODE_SERVER_FAILURE, false, []);
    const hosts = this.#fromHosts(query);
    if (hosts !== undefined) return answerWith(RCODE_OK, false, hosts);
    if (query.type === TYPE_A || query.type === TYPE_AAAA) {
      const found = resolveDns(state, {
        client,
        name: query.name,
        family: query.type === TYPE_A ? "IPv4" : "IPv6",
        network: settings.network,
        clusterDomain: settings.clusterDomain,
        ipv6Enabled: settings.ipv6,
        preferredNamespace: this.#settings.preferredNamespace,
        searchDomains: this.#settings.searchDomains,
        random: () => reactor.random(),
      });
      if (found.kind === "answer") {
        this.#log(query, "success", found.addresses.length);
        return answerWith(RCODE_OK, true, found.addresses, found.cname);
      }
      if (found.kind === "nodata") {
        this.#log(query, "no records", 0);
        return answerWith(RCODE_OK, true, []);
      }
    }
    this.#forwarder.forward(query, transport === "tcp", (response, reason) => {
      this.#log(query, response === undefined ? `forwarding failed (${reason})` : "forwarded", 0);
      if (response === undefined) return answerWith(RCODE_SERVER_FAILURE, false, []);
      // Too big for this client: it asks again over TCP.
      if (response.length > limit) return respond(truncated(query, limit));
      respond(response);
    });
  }

  /** Takes no more questions, answers those that have arrived, closes and calls back. `close` cuts that short. */
  drain(onClosed: () => void): void {
    for (const listener of this.#listeners) listener.close();
    for (const socket of this.#sockets) {
      socket.retire();
      this.#receive(socket);
    }
    for (const stream of [...this.#streams]) stream.drain();
    const { reactor } = this.#proxy.context;
    const look = () => {
      if (this.#closed) return;
      if (this.#forwarder.pending > 0 || this.#streams.size > 0) {
        reactor.after(DRAIN_LOOK_MS, look);
        return;
      }
      this.close();
      onClosed();
    };
    reactor.after(DRAIN_LOOK_MS, look);
  }

  close(): void {
    this.#closed = true;
    for (const socket of this.#sockets) socket.close();
    for (const listener of this.#listeners) listener.close();
    for (const stream of [...this.#streams]) stream.close();
    this.#forwarder.close();
  }

  /** ::1 is missing where IPv6 is switched off on loopback: then the rules send nothing there either. */
  #bindV6(): void {
    try {
      this.#bind({ ip: "::1", port: this.#settings.port });
    } catch (error) {
      if (!(error instanceof SystemError) || error.errno !== Errno.EADDRNOTAVAIL) throw error;
    }
  }

  #bind(address: SocketAddress): void {
    const { reactor, settings } = this.#proxy.context;
    const { namespace } = this.#proxy;
    const options = {
      address,
      reusePort: settings.reusePort,
      ...(namespace === undefined ? {} : { namespace }),
      ...(settings.packetMark === undefined ? {} : { mark: settings.packetMark }),
    };
    this.#sockets.push(reactor.datagram(options, { onReadable: (socket) => this.#receive(socket) }));
    this.#listeners.push(
      reactor.listen(options, {
        onAccept: (connection) => this.#accept(connection),
        onAcceptError: () => this.#proxy.context.telemetry.count("accept_errors"),
      }),
    );
  }

  #receive(socket: DatagramSocket): void {
    for (;;) {
      const length = socket.receive(this.#buffer, 0, MAX_MESSAGE);
      if (length === AGAIN || socket.closed) return;
      // A peer's ICMP error arrives here: it concerns an earlier answer.
      if (length < 0) continue;
      const client = { ...socket.sender };
      this.handle(Uint8Array.from(this.#buffer.bytes.subarray(0, length)), "udp", (answer) => {
        if (socket.closed) return;
        this.#buffer.bytes.set(answer);
        socket.send(this.#buffer, 0, answer.length, client);
      });
    }
  }

  #accept(connection: Connection): void {
    if (this.#streams.size >= MAX_STREAMS) return connection.reset();
    const stream = new DnsStream(this.#proxy.context.reactor, connection, {
      onMessage: (message, respond) => this.handle(message, "tcp", respond),
      onClosed: () => this.#streams.delete(stream),
    });
    this.#streams.add(stream);
  }

  #fromHosts(query: Query): readonly string[] | undefined {
    const known = this.#settings.hosts.get(query.name);
    if (known === undefined || (query.type !== TYPE_A && query.type !== TYPE_AAAA)) return undefined;
    return known.filter((ip) => ip.includes(":") === (query.type === TYPE_AAAA));
  }

  #series(query: Query, protocol: Transport): DnsSeries {
    const client = this.#proxy.localWorkload();
    return this.#proxy.context.telemetry.dns({
      queryType: typeName(query.type),
      protocol,
      canonicalService: client?.canonicalName,
      canonicalRevision: client?.canonicalRevision,
    });
  }

  #log(query: Query, result: string, endpoints: number): void {
    const { workload, context } = this.#proxy;
    context.telemetry.log.scope("dns").debug("dns query", {
      "src.workload": workload.name,
      "src.namespace": workload.namespace,
      query: typeName(query.type).toUpperCase(),
      domain: query.name,
      result,
      endpoints,
    });
  }
}

/** Names of the types that clients ask for; others are labelled by number as RFC 3597 writes them. */
const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [1, "a"],
  [2, "ns"],
  [5, "cname"],
  [6, "soa"],
  [12, "ptr"],
  [15, "mx"],
  [16, "txt"],
  [28, "aaaa"],
  [33, "srv"],
  [64, "svcb"],
  [65, "https"],
]);

/** Any other number is one label value: a client must not be able to make 65,536 series. */
function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? "unknown";
}

function truncated(query: Query, limit: number): Uint8Array {
  const answer = { code: RCODE_OK, authoritative: false, addresses: [], cname: undefined, ttlSeconds: 0 };
  const bytes = encodeAnswer(query, answer, limit);
  // TC is bit 9 of the flags, the second bit of the third byte.
  bytes[2] = (bytes[2] ?? 0) | 0x02;
  return bytes;
}
