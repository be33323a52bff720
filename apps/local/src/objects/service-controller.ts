import { isDeepStrictEqual } from "node:util";
import type { Log } from "@tulle/base";
import { type ResourceKind, SERVICE, type Store } from "@tulle/store";
import { describe, keyOf, type Service } from "../resources/kinds.ts";
import { type AddressPlan, clusterIpsOf, MAX_SERVICES, NumberPool } from "./addresses.ts";
import { Reconciler } from "./reconciler.ts";
import { MANAGER } from "./status-writer.ts";
import type { Objects } from "./view.ts";

export interface ServiceControllerOptions {
  readonly plan: AddressPlan;
  readonly store: Pick<Store, "apply">;
  readonly log: Log;
}

const SERVICES = SERVICE as ResourceKind<Service>;

/** Gives each service its cluster IPs, which it keeps as long as it is there. */
export class ServiceController {
  readonly #options: ServiceControllerOptions;
  readonly #numbers = new NumberPool(MAX_SERVICES);
  readonly #complaints = new Set<string>();
  readonly #reconciler: Reconciler;
  #services: readonly Service[] = [];

  constructor(options: ServiceControllerOptions) {
    this.#options = options;
    this.#reconciler = new Reconciler({
      work: () => this.#reconcile(),
      complaint: "services have no addresses yet",
      log: options.log,
    });
  }

  update({ services }: Pick<Objects, "services">): void {
    this.#services = services;
    this.#reconciler.poke();
  }

  close(): Promise<void> {
    return this.#reconciler.close();
  }

  async #reconcile(): Promise<void> {
    const { plan, store } = this.#options;
    const services = this.#services;
    const keys = new Set(services.map(keyOf));
    const known = new Set(this.#numbers.keys());
    for (const key of known) if (!keys.has(key)) this.#numbers.release(key);
    // Addresses of an earlier run first: nobody else may get them.
    for (const service of services.filter((one) => !known.has(keyOf(one)))) {
      const numbers = (service.spec.clusterIPs ?? []).map((ip) => plan.serviceNumber(ip));
      const number = numbers.find((one) => one !== undefined);
      if (number !== undefined) this.#numbers.adopt(keyOf(service), number);
    }
    for (const service of services) {
      const number = this.#numbers.take(keyOf(service));
      if (number === undefined)
        this.#complain(`${describe(service)}: more than ${MAX_SERVICES} services: it gets no address`);
      else await this.#write(service, clusterIpsOf(service, plan.serviceAddress(number)), store);
    }
  }

  async #write(
    service: Service,
    wanted: ReturnType<typeof clusterIpsOf>,
    store: ServiceControllerOptions["store"],
  ): Promise<void> {
    const { spec, apiVersion, kind, metadata } = service;
    const same =
      isDeepStrictEqual(spec.clusterIPs, wanted.clusterIPs) &&
      (wanted.clusterIP === undefined || spec.clusterIP === wanted.clusterIP);
    if (same) return;
    const { name, namespace, uid } = metadata;
    const ref = { name, namespace, ...(uid === undefined ? {} : { uid }) };
    try {
      await store.apply(SERVICES, { apiVersion, kind, metadata: ref, spec: wanted }, { manager: MANAGER });
    } catch (error) {
      // It went, or another took its name: what comes next says so.
      const { code } = error as { readonly code?: unknown };
      if (code !== "CONFLICT" && code !== "NOT_FOUND") throw error;
    }
  }

  /** Once for each reason. */
  #complain(message: string): void {
    if (this.#complaints.has(message)) return;
    this.#complaints.add(message);
    this.#options.log.error(message);
  }
}
