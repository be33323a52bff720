import { DAEMON_SET, DEPLOYMENT, type KubeObject, type ResourceKind, type Store } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import { INSTALLATION_LABEL, ISTIOD, NODE_AGENT, ZTUNNEL } from "./manifests/common.ts";

/** Whether there is a mesh already that this installation would fight with. */

export interface OtherMesh {
  /** `DaemonSet kube-system/istio-cni-node`. */
  readonly what: string;
  /** It is a Tulle, installed in this namespace. */
  readonly tulleIn: string | undefined;
}

interface Part {
  readonly kind: ResourceKind;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** One node agent per node, one ztunnel per node, one istiod that writes status: whatever namespace they are in. */
const PARTS: readonly Part[] = [
  { kind: DEPLOYMENT, name: ISTIOD, labels: { app: ISTIOD } },
  { kind: DAEMON_SET, name: NODE_AGENT, labels: { "k8s-app": NODE_AGENT } },
  { kind: DAEMON_SET, name: ZTUNNEL, labels: { app: ZTUNNEL } },
];

/** Parts of meshes other than the one of `namespace`. */
export async function otherMeshes(store: Store, namespace: string): Promise<OtherMesh[]> {
  const found: OtherMesh[] = [];
  for (const { kind, name, labels } of PARTS) {
    const objects = new Map<string, KubeObject>();
    for (const object of await store.list(kind, { labels })) objects.set(keyOf(object), object);
    // By name too: labels of the workload itself are not always those of its pods.
    const same = await store.get(kind, { namespace, name });
    if (same !== undefined) objects.set(keyOf(same), same);
    for (const [key, object] of [...objects].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      const installation = object.metadata.labels?.[INSTALLATION_LABEL];
      if (installation !== namespace) found.push({ what: `${kind.kind} ${key}`, tulleIn: installation });
    }
  }
  return found;
}

/** Throws CliError when there is another mesh. */
export function refuseBeside(others: readonly OtherMesh[]): void {
  if (others.length === 0) return;
  const list = others.map(({ what }) => what).join(", ");
  const ours = others.find(({ tulleIn }) => tulleIn !== undefined)?.tulleIn;
  if (ours !== undefined) {
    throw new CliError(
      `Tulle is installed in the namespace ${ours} already (${list})`,
      `upgrade that one: tulle install --istio-namespace ${ours}`,
    );
  }
  throw new CliError(
    `another mesh is installed: ${list}; two node agents would both redirect the pods of a node`,
    "remove the other one first (istioctl uninstall --purge, or helm uninstall of its charts), then try again",
  );
}

function keyOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
}
