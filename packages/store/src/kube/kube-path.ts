import type { ObjectRef, ResourceKind, Selection } from "../contract.ts";
import { StoreError } from "../contract.ts";
import { resourceName } from "../kinds.ts";

/** `/api/v1/namespaces/default/pods`, or without the namespace for all namespaces and cluster-scoped kinds. */
export function collectionPath(kind: ResourceKind, namespace?: string): string {
  const root = kind.group === "" ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const scope = kind.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}${scope}/${kind.plural}`;
}

/** Throws StoreError INVALID when a namespaced object lacks its namespace, or the name is empty. */
export function objectPath(kind: ResourceKind, ref: ObjectRef, subresource?: string): string {
  checkRef(kind, ref);
  const tail = subresource === undefined ? "" : `/${subresource}`;
  return `${collectionPath(kind, ref.namespace)}/${encodeURIComponent(ref.name)}${tail}`;
}

export function checkRef(kind: ResourceKind, ref: ObjectRef): void {
  if (ref.name === "") throw new StoreError("INVALID", `${resourceName(kind)}: metadata.name is missing`);
  if (kind.namespaced && (ref.namespace ?? "") === "") {
    throw new StoreError("INVALID", `${resourceName(kind)} ${ref.name}: metadata.namespace is missing`);
  }
}

export function selectionQuery(selection: Selection | undefined): Record<string, string | undefined> {
  return { labelSelector: equalities(selection?.labels), fieldSelector: equalities(selection?.fields) };
}

function equalities(wanted: Readonly<Record<string, string>> | undefined): string | undefined {
  const parts = Object.entries(wanted ?? {}).map(([name, value]) => `${name}=${value}`);
  return parts.length === 0 ? undefined : parts.join(",");
}

/** `list pods in "default"`: the verb, then the kind, as RBAC calls them. */
export function describe(verb: string, kind: ResourceKind, ref?: Partial<ObjectRef>): string {
  const name = ref?.name === undefined ? "" : ` ${ref.name}`;
  const place = kind.namespaced && ref?.namespace !== undefined ? ` in ${ref.namespace}` : "";
  return `${verb} ${resourceName(kind)}${name}${place}`;
}
