import type { Service, ServicePort } from "../resources/kinds.ts";
import { isReady, type Pod, podIps, resolvePort } from "./pod.ts";

/** Where a port of a service is answered. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
}

/** The pods that a service selects: of its own namespace, all labels matching. A service without selector has none. */
export function podsOf(service: Service, pods: readonly Pod[]): Pod[] {
  const wanted = Object.entries(service.spec.selector ?? {});
  if (wanted.length === 0) return [];
  return pods.filter(
    (pod) =>
      pod.metadata.namespace === service.metadata.namespace &&
      wanted.every(([label, value]) => pod.metadata.labels[label] === value),
  );
}

/** Endpoints of one port, of all address families; only ready pods unless the service says otherwise. */
export function endpointsOf(service: Service, port: ServicePort, pods: readonly Pod[]): Endpoint[] {
  const ready = podsOf(service, pods).filter(
    (pod) =>
      service.spec.publishNotReadyAddresses === true || (isReady(pod) && pod.metadata.deletionTimestamp === undefined),
  );
  return ready.flatMap((pod) => {
    const target = resolvePort(pod.spec.containers, port.targetPort ?? port.port);
    return target === undefined ? [] : podIps(pod).map((ip) => ({ ip, port: target }));
  });
}

/** `<name>.<namespace>.svc.<domain>`. */
export function hostnameOf(service: Service, clusterDomain: string): string {
  return `${service.metadata.name}.${service.metadata.namespace}.svc.${clusterDomain}`;
}
