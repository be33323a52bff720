import type { Log } from "@tulle/base";
import { isIpv6, messageOf } from "@tulle/base";
import type { LabNamespace } from "@tulle/lab";
import type { ServiceAddresses } from "./pod-environment.ts";
import { endpointsOf, type Endpoint } from "../objects/endpoints.ts";
import type { Objects } from "../objects/view.ts";
import type { ServicePort } from "../resources/kinds.ts";

/**
 * The part of kube-proxy that a pod outside the mesh needs: cluster IPs of services become an endpoint's address. It is a
 * table in the pod's own namespace, so the host keeps no rules and the server sees the client's real address.
 */

const TABLE = "tulle-services";
/** After capture by the mesh (-100): while a pod enters or leaves it, what is captured stays captured. */
const PRIORITY = -99;
/** Nobody listens there: without endpoints a connection is refused, not left to time out at the gateway. */
const CLOSED_PORT = 1;
/** Rules of one service are worth sending only to a sensible number of endpoints. */
const MAX_ENDPOINTS = 64;

export class PodServiceAddresses implements ServiceAddresses {
  readonly #namespaces = new Map<string, LabNamespace>();
  readonly #log: Log;
  #rules = "";
  #queue: Promise<void> = Promise.resolve();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Brings all attached pods up to date when the services or their endpoints have changed. */
  update(objects: Objects): void {
    const rules = serviceRules(objects);
    if (rules === this.#rules) return;
    this.#rules = rules;
    for (const namespace of this.#namespaces.values()) {
      void this.#enqueue(() => this.#apply(namespace, rules)).catch((error: unknown) =>
        this.#log.warn(`service addresses of ${namespace.label}: ${messageOf(error)}`),
      );
    }
  }

  async attach(podUid: string, namespace: LabNamespace): Promise<void> {
    this.#namespaces.set(podUid, namespace);
    await this.#enqueue(() => this.#apply(namespace, this.#rules));
  }

  async detach(podUid: string): Promise<void> {
    const namespace = this.#namespaces.get(podUid);
    if (namespace === undefined) return;
    this.#namespaces.delete(podUid);
    await this.#enqueue(() => this.#apply(namespace, `add table inet ${TABLE}\ndelete table inet ${TABLE}\n`));
  }

  async #apply(namespace: LabNamespace, rules: string): Promise<void> {
    await namespace.run("nft", ["-f", "-"], { input: rules });
  }

  /** One nft at a time: the last rules written are the newest. */
  #enqueue(action: () => Promise<void>): Promise<void> {
    const result = this.#queue.then(action);
    this.#queue = result.catch(() => {});
    return result;
  }
}

/** The whole table as one nftables transaction; the same objects give the same text. */
export function serviceRules(objects: Objects): string {
  const rules: string[] = [];
  for (const service of objects.services) {
    for (const ip of service.spec.clusterIPs ?? []) {
      if (ip === "None" || ip === "") continue;
      for (const port of service.spec.ports ?? []) {
        const endpoints = endpointsOf(service, port, objects.pods).filter((one) => isIpv6(one.ip) === isIpv6(ip));
        rules.push(ruleOf(ip, port, endpoints.slice(0, MAX_ENDPOINTS)));
      }
    }
  }
  const table = `table inet ${TABLE}`;
  return [
    `add ${table}`,
    `delete ${table}`,
    `${table} {`,
    "  chain output {",
    `    type nat hook output priority ${PRIORITY}; policy accept;`,
    ...rules.map((rule) => `    ${rule}`),
    "  }",
    "}",
    "",
  ].join("\n");
}

function ruleOf(ip: string, port: ServicePort, endpoints: readonly Endpoint[]): string {
  const family = isIpv6(ip) ? "ip6" : "ip";
  const match = `${family} daddr ${ip} tcp dport ${port.port}`;
  const target = (one: Endpoint) => (isIpv6(one.ip) ? `[${one.ip}]:${one.port}` : `${one.ip}:${one.port}`);
  const [first] = endpoints;
  if (first === undefined) return `${match} redirect to :${CLOSED_PORT}`;
  if (endpoints.length === 1) return `${match} dnat ${family} to ${target(first)}`;
  const map = endpoints.map((one, index) => `${index} : ${one.ip} . ${one.port}`).join(", ");
  return `${match} dnat ${family} to numgen random mod ${endpoints.length} map { ${map} }`;
}
