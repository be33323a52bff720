import { createSocket } from "node:dgram";
import { type Log, messageOf } from "@tulle/base";
import { answer, type NameTable } from "./dns-names.ts";

const DNS_UDP_PORT = 53;

/** The nameserver of pods outside the mesh, and the one that ztunnel forwards to: UDP on the bridge's address. */
export class DnsServer {
  readonly #socket;
  readonly #domain: string;
  #names: NameTable = new Map();

  private constructor(domain: string, log: Log) {
    this.#domain = domain;
    this.#socket = createSocket("udp4");
    this.#socket.on("error", (error) => log.warn(`dns: ${messageOf(error)}`));
    this.#socket.on("message", (query, peer) => {
      const response = answer(query, this.#names, this.#domain);
      // A datagram that cannot be sent is lost, like any other; the resolver asks again.
      if (response !== undefined) this.#socket.send(response, peer.port, peer.address, () => {});
    });
  }

  /** Rejects when the address cannot be bound. */
  static async listen(ip: string, domain: string, log: Log): Promise<DnsServer> {
    const server = new DnsServer(domain, log);
    await new Promise<void>((resolve, reject) => {
      server.#socket.once("error", (error) =>
        reject(new Error(`cannot serve DNS on ${ip}:${DNS_UDP_PORT}: ${error.message}`)),
      );
      server.#socket.bind(DNS_UDP_PORT, ip, resolve);
    });
    return server;
  }

  update(names: NameTable): void {
    this.#names = names;
  }

  close(): void {
    this.#socket.close();
  }
}
