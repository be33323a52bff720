import {
  CLUSTER_ROLE,
  CLUSTER_ROLE_BINDING,
  CONFIG_MAP,
  DAEMON_SET,
  DEPLOYMENT,
  type KubeObject,
  type ResourceKind,
  ROLE,
  ROLE_BINDING,
  SERVICE,
  SERVICE_ACCOUNT,
  type Store,
} from "@tulle/store";
import { INSTALLATION_LABEL } from "./manifests/common.ts";

/** Kinds of an installation, in the order in which uninstall takes them away. Namespace and schemas have rules of their own. */
export const INSTALLED_KINDS: readonly ResourceKind[] = [
  DAEMON_SET,
  DEPLOYMENT,
  SERVICE,
  CONFIG_MAP,
  ROLE_BINDING,
  ROLE,
  CLUSTER_ROLE_BINDING,
  CLUSTER_ROLE,
  SERVICE_ACCOUNT,
];

export interface InstalledObject {
  readonly kind: ResourceKind;
  readonly object: KubeObject;
}

/** What an installation has put into the cluster, in the order of INSTALLED_KINDS. */
export async function installedObjects(store: Store, namespace: string): Promise<InstalledObject[]> {
  const found: InstalledObject[] = [];
  for (const kind of INSTALLED_KINDS) {
    const objects = await store.list(kind, { labels: { [INSTALLATION_LABEL]: namespace } });
    found.push(...objects.map((object) => ({ kind, object })));
  }
  return found;
}

/** Takes away what was installed once and is not among `current` any more. */
export async function prune(
  store: Store,
  namespace: string,
  current: readonly KubeObject[],
  dryRun: boolean,
): Promise<InstalledObject[]> {
  const wanted = new Set(current.map((object) => keyOf(object.kind, object)));
  const stale = (await installedObjects(store, namespace)).filter(
    ({ kind, object }) => !wanted.has(keyOf(kind.kind, object)),
  );
  if (dryRun) return stale;
  for (const { kind, object } of stale) {
    const { uid } = object.metadata;
    await store.delete(kind, object.metadata, uid === undefined ? {} : { uid });
  }
  return stale;
}

function keyOf(kind: string, { metadata }: KubeObject): string {
  return `${kind}/${metadata.namespace ?? ""}/${metadata.name}`;
}
