import { canonicalIp } from "@tulle/base";
import { newWorkload } from "../defaults.ts";
import type { GatewayAddress, GatewayDestination, Workload } from "../model.ts";
import type { MeshSettings } from "./context.ts";
import type { KubeGateway } from "./istio-objects.ts";
import { readable } from "./readable.ts";
import { annotationOf, byKey, keyOf, labelOf, nameOf, namespaceOf } from "./kubernetes.ts";

/** A way into another network. */
export interface NetworkGateway {
  readonly network: string;
  readonly address: GatewayAddress;
  readonly workload: Workload;
}

const NETWORK_LABEL = "topology.istio.io/network";
export const REMOTE_CLASS = "istio-remote";
const SERVICE_ACCOUNT = "gateway.istio.io/service-account";

/** Network of the gateway or namespace; undefined: not labelled. */
export function networkOf(object: Parameters<typeof labelOf>[0]): string | undefined {
  return labelOf(object, NETWORK_LABEL);
}

/** The ways that a Gateway of class istio-remote offers: one for each of its addresses (control-plane.md §2.3). */
export function readNetworkGateways(from: KubeGateway, settings: MeshSettings): readonly NetworkGateway[] {
  const network = networkOf(from);
  const port = from.spec?.listeners?.find(({ protocol }) => protocol === "HBONE")?.port;
  if (from.spec?.gatewayClassName !== REMOTE_CLASS || network === undefined || port === undefined) return [];
  const gateways: NetworkGateway[] = [];
  for (const { type = "IPAddress", value = "" } of from.status?.addresses ?? []) {
    const ip = type === "IPAddress" ? canonicalIp(value) : undefined;
    const hostname = type === "Hostname" && value !== "" ? value : undefined;
    if (ip === undefined && hostname === undefined) continue;
    const uid = `NetworkGateway/${network}/${ip ?? hostname}/${port}`;
    const namespace = namespaceOf(from);
    const workload = newWorkload({
      uid,
      name: uid,
      namespace,
      serviceAccount: annotationOf(from, SERVICE_ACCOUNT) ?? `${nameOf(from)}-${REMOTE_CLASS}`,
      trustDomain: settings.trustDomain,
      clusterId: "",
      network,
      addresses: ip === undefined ? [] : [ip],
      hostname: hostname ?? "",
    });
    const destination: GatewayDestination =
      ip === undefined ? { kind: "hostname", namespace, hostname: hostname ?? "" } : { kind: "address", network, ip };
    gateways.push({ network, address: { destination, hboneMtlsPort: port }, workload });
  }
  return gateways;
}

/** All ways; of two with one name the first Gateway's counts. The first of a network is the one that is taken. */
export function collectNetworkGateways(
  gateways: Iterable<KubeGateway>,
  settings: MeshSettings,
): { readonly byNetwork: ReadonlyMap<string, GatewayAddress>; readonly workloads: readonly Workload[] } {
  const byNetwork = new Map<string, GatewayAddress>();
  const workloads = new Map<string, Workload>();
  for (const gateway of [...gateways].sort(byKey(keyOf))) {
    for (const { network, address, workload } of readable(() => readNetworkGateways(gateway, settings), [])) {
      if (!byNetwork.has(network)) byNetwork.set(network, address);
      if (!workloads.has(workload.uid)) workloads.set(workload.uid, workload);
    }
  }
  return { byNetwork, workloads: [...workloads.values()] };
}
