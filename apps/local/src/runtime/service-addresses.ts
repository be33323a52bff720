import type { Log } from "@tulle/base";
import { isIpv6, messageOf } from "@tulle/base";
import type { LabNamespace } from "@tulle/lab";
import type { ServiceAddresses } from "./pod-environment.ts";
import { endpointsOf, type Endpoint } from "../objects/endpoints.ts";
import type { Objects } from "../objects/view.ts";
import type { ServicePort } from "../resources/kinds.ts";

/**
 * The part of kube-proxy that pods need: cluster IPs of services become an endpoint's address. It is a table in the pod's own
 * namespace, so the host keeps no rules and the server sees the client's real address. Pods of the mesh have it, too: what
 * they send is captured before it, and when that ends, from one packet to the next, nothing may go to a cluster IP.
 */

const TABLE = "tulle-services";
/** After capture by the mesh (-100): what is captured stays captured. */
const PRIORITY = -99;
/** Nobody listens there: without endpoints a connection is refused, not left to time out at the gateway. */
const CLOSED_PORT = 1;
/** How soon rules that could not be written are tried again. */
const RETRY_MS = 500;
/** Rules of one service are worth sending only to a sensible number of endpoints. */
const MAX_ENDPOINTS = 64;

interface Attached {
  readonly namespace: LabNamespace;
  /** The rules that it has. */
  rules: string | undefined;
  queued: boolean;
}

export class PodServiceAddresses implements ServiceAddresses {
  readonly #pods = new Map<string, Attached>();
  readonly #log: Log;
  #rules = "";
  #queue: Promise<void> = Promise.resolve();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Brings all attached pods up to date when the services or their endpoints have changed. */
  update(objects: Objects): void {
    this.#rules = serviceRules(objects);
    for (const [uid, pod] of this.#pods) if (pod.rules !== this.#rules) this.#follow(uid, pod);
  }

  /** Rejects when the rules cannot be written. */
  async attach(podUid: string, namespace: LabNamespace): Promise<void> {
    const pod: Attached = { namespace, rules: undefined, queued: false };
    this.#pods.set(podUid, pod);
    await this.#enqueue(() => this.#bring(podUid, pod));
  }

  detach(podUid: string): void {
    this.#pods.delete(podUid);
  }

  /** At most once in the queue, and again until the pod has the newest rules or is gone. */
  #follow(uid: string, pod: Attached): void {
    if (pod.queued) return;
    pod.queued = true;
    void this.#enqueue(() => {
      pod.queued = false;
      return this.#bring(uid, pod);
    }).catch((error: unknown) => {
      if (this.#pods.get(uid) !== pod) return;
      this.#log.warn(`service addresses of ${pod.namespace.label}, tried again: ${messageOf(error)}`);
      setTimeout(() => this.#follow(uid, pod), RETRY_MS).unref();
    });
  }

  async #bring(uid: string, pod: Attached): Promise<void> {
    const rules = this.#rules;
    if (pod.rules === rules || this.#pods.get(uid) !== pod) return;
    await pod.namespace.run("nft", ["-f", "-"], { input: rules });
    pod.rules = rules;
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
