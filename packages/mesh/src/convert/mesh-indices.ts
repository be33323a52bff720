import { endpointIp } from "./endpoint.ts";
import { sliceService } from "./endpoint-slice.ts";
import type { KubeEndpointSlice } from "./istio-objects.ts";
import { KeyIndex, LabelIndex } from "./key-index.ts";
import { type KubePod, namespaceOf } from "./kubernetes.ts";
import type { ObjectChange } from "./mesh-objects.ts";
import { readable } from "./readable.ts";
import { podAddresses } from "./pod.ts";
import { policyTargetKeys } from "./policy-targets.ts";
import { workloadEntryLabels } from "./workload-entry.ts";

/** Where to find objects other than by name. Names of units are `<kind> <namespace>/<name>`. */
export class MeshIndices {
  /** Units of Pods and WorkloadEntries. */
  readonly labels = new LabelIndex();
  /** Node → keys of pods. */
  readonly podsByNode = new KeyIndex();
  /** Address → keys of the pods that have it for themselves. */
  readonly podsByIp = new KeyIndex();
  /** Address of a node → keys of the pods that share it. */
  readonly hostPodsByIp = new KeyIndex();
  /** Address → units of WorkloadEntries and ServiceEntries with an endpoint there. */
  readonly endpointsByIp = new KeyIndex();
  /** Key of a Service → keys of its slices. */
  readonly slicesByService = new KeyIndex();
  /** Key of a pod → keys of the slices that name it. */
  readonly slicesByPod = new KeyIndex();
  /** What policies are attached to (`policyTargetKeys`) → their keys. */
  readonly policiesByTarget = new KeyIndex();

  update(change: ObjectChange): void {
    const { kind, key } = change;
    const [namespace = ""] = key.split("/");
    switch (kind) {
      case "Pod": {
        const { before, after } = change;
        this.labels.set(`Pod ${key}`, namespace, after && (after.metadata?.labels ?? {}));
        this.podsByNode.move(key, nodeOf(before), nodeOf(after));
        this.podsByIp.move(key, ownIps(before), ownIps(after));
        this.hostPodsByIp.move(key, hostIps(before), hostIps(after));
        return;
      }
      case "WorkloadEntry": {
        const { before, after } = change;
        const unit = `WorkloadEntry ${key}`;
        this.labels.set(unit, namespace, after && readable(() => workloadEntryLabels(after), {}));
        this.endpointsByIp.move(
          unit,
          ipsOf(() => [before?.spec ?? {}]),
          ipsOf(() => [after?.spec ?? {}]),
        );
        return;
      }
      case "ServiceEntry": {
        const endpoints = (entry: typeof change.after) => ipsOf(() => entry?.spec?.endpoints ?? []);
        this.endpointsByIp.move(`ServiceEntry ${key}`, endpoints(change.before), endpoints(change.after));
        return;
      }
      case "EndpointSlice": {
        const services = (slice: KubeEndpointSlice | undefined) => (slice && sliceService(slice)) ?? [];
        this.slicesByService.move(key, [services(change.before)].flat(), [services(change.after)].flat());
        this.slicesByPod.move(key, slicePods(change.before), slicePods(change.after));
        return;
      }
      case "AuthorizationPolicy":
        this.policiesByTarget.move(key, policyTargetKeys(change.before), policyTargetKeys(change.after));
        return;
      case "Namespace":
      case "Node":
      case "Service":
      case "Gateway":
      case "GatewayClass":
      case "PeerAuthentication":
        return;
      default:
        return change satisfies never;
    }
  }
}

/** Addresses that the pod shares with no other. */
export function ownIps(pod: KubePod | undefined): readonly string[] {
  return pod?.spec?.hostNetwork === true ? [] : podIps(pod);
}

/** Addresses of a node that the pod is on the network of. */
function hostIps(pod: KubePod | undefined): readonly string[] {
  return pod?.spec?.hostNetwork === true ? podIps(pod) : [];
}

export function podIps(pod: KubePod | undefined): readonly string[] {
  return pod === undefined ? [] : readable(() => podAddresses(pod) ?? [], []);
}

/** Keys of the pods that a slice's endpoints are. */
export function slicePods(slice: KubeEndpointSlice | undefined): readonly string[] {
  if (slice === undefined) return [];
  const refs = () => (slice.endpoints ?? []).flatMap(({ targetRef }) => targetRef ?? []);
  return readable(refs, [])
    .filter(({ kind, namespace }) => kind === "Pod" && namespace === namespaceOf(slice))
    .map(({ namespace, name }) => `${namespace}/${name}`);
}

function nodeOf(pod: KubePod | undefined): readonly string[] {
  const node = pod?.spec?.nodeName;
  return node === undefined ? [] : [node];
}

function ipsOf(endpoints: () => readonly { readonly address?: string | undefined }[]): readonly string[] {
  return readable(() => endpoints().flatMap((endpoint) => endpointIp(endpoint) ?? []), []);
}
