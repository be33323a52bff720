import { canonicalIp, type SocketAddress } from "@tulle/base";
import type { DnsAnswer } from "@tulle/mesh";
import type { Reactor } from "@tulle/reactor";
import type { DnsSettings } from "../../protocol.ts";
import { Forwarder, type ForwarderObserver } from "./forwarder.ts";
import { encodeName, type Query, summarizeResponse, TYPE_A, TYPE_AAAA } from "./message.ts";

/** Port of a nameserver that resolv.conf names by address alone. */
const NAMESERVER_PORT = 53;

export type Lookup = (hostname: string, family: "IPv4" | "IPv6" | "any", done: (answer: DnsAnswer) => void) => void;

const UNOBSERVED: ForwarderObserver = {
  onUpstreamRequest() {},
  onUpstreamFailure() {},
  onUpstreamAnswer() {},
};

/** Looks hostnames up with our own resolver, in our own namespace: for workloads that have a name instead of addresses. */
export function createLookup(reactor: Reactor, settings: DnsSettings | undefined): Lookup {
  if (settings === undefined) return (_hostname, _family, done) => done({ error: "no resolver is configured" });
  const forwarder = new Forwarder({
    reactor,
    namespace: undefined,
    mark: undefined,
    upstreams: upstreamAddresses(settings),
    timeoutMs: settings.timeoutMs,
    attempts: settings.attempts,
    observe: UNOBSERVED,
  });
  return (hostname, family, done) => {
    const known = settings.hosts.get(hostname);
    if (known !== undefined) return done({ addresses: known });
    const types = family === "any" ? [TYPE_A, TYPE_AAAA] : [family === "IPv4" ? TYPE_A : TYPE_AAAA];
    const addresses: string[] = [];
    let left = types.length;
    let failed = "";
    for (const type of types) {
      const query = plainQuery(hostname, type);
      if (query === undefined) return done({ error: `${hostname} is not a host name` });
      forwarder.forward(query, false, (response, reason) => {
        left--;
        if (response === undefined) failed = reason;
        else addresses.push(...(summarizeResponse(response)?.addresses ?? []));
        if (left > 0) return;
        done(addresses.length === 0 && failed !== "" ? { error: failed } : { addresses });
      });
    }
  };
}

export function upstreamAddresses(settings: DnsSettings): SocketAddress[] {
  return settings.upstreams.flatMap((text) => {
    const ip = canonicalIp(text);
    return ip === undefined ? [] : [{ ip, port: NAMESERVER_PORT }];
  });
}

function plainQuery(hostname: string, type: number): Query | undefined {
  const name = encodeName(hostname);
  if (name === undefined) return undefined;
  const question = Uint8Array.from([...name, 0, type, 0, 1]);
  return { id: 0, recursionDesired: true, name: hostname, type, class: 1, edns: undefined, question };
}
