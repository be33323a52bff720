import {
  CUSTOM_RESOURCE_DEFINITION,
  type CustomResourceDefinition,
  NAMESPACE,
  type ResourceKind,
  type Store,
} from "@tulle/store";
import type { Progress } from "../ui/progress.ts";
import { INSTALLATION_LABEL } from "./manifests/common.ts";

/** What uninstall leaves in place unless it is told otherwise: schemas, all objects of them, the namespace. */
export interface Purge {
  /** Schemas that an installation made. */
  readonly crds: readonly { readonly name: string; readonly objects: readonly string[] }[];
  /** The release namespace, when an installation made it. */
  readonly namespace: string | undefined;
  /** What was there before any installation, and stays. */
  readonly kept: readonly string[];
}

/** Objects of a kind that are named one by one. */
const MAX_NAMED = 20;

export async function listPurge(store: Store, namespace: string): Promise<Purge> {
  const labels = { [INSTALLATION_LABEL]: namespace };
  const crds = [];
  for (const crd of await store.list(CUSTOM_RESOURCE_DEFINITION, { labels })) {
    const objects = await objectsOf(store, crd);
    crds.push({ name: crd.metadata.name, objects });
  }
  const release = await store.get(NAMESPACE, { name: namespace });
  const ours = release?.metadata.labels?.[INSTALLATION_LABEL] === namespace;
  const kept = (await foreignCrds(store)).map((name) => `schema ${name}`);
  if (release !== undefined && !ours) kept.push(`namespace ${namespace}`);
  return { crds: crds.toSorted((a, b) => (a.name < b.name ? -1 : 1)), namespace: ours ? namespace : undefined, kept };
}

/** Schemas that an installation needs and found in place. */
async function foreignCrds(store: Store): Promise<string[]> {
  const { readCrds } = await import("./manifests/crds.ts");
  const needed = new Set(readCrds().map(({ metadata }) => metadata.name));
  return (await store.list(CUSTOM_RESOURCE_DEFINITION))
    .filter(({ metadata }) => needed.has(metadata.name) && metadata.labels?.[INSTALLATION_LABEL] === undefined)
    .map(({ metadata }) => metadata.name)
    .toSorted();
}

/** For people: every object that will be lost. */
export function purgeText({ crds, namespace, kept }: Purge): string {
  const lines =
    crds.length > 0 || namespace !== undefined ? ["--purge removes these, whoever made their objects:"] : [];
  for (const { name, objects } of crds) {
    lines.push(`  schema ${name}${objects.length === 0 ? "" : ` with ${objects.length} objects:`}`);
    lines.push(...objects.slice(0, MAX_NAMED).map((object) => `    ${object}`));
    if (objects.length > MAX_NAMED) lines.push(`    and ${objects.length - MAX_NAMED} more`);
  }
  if (namespace !== undefined) lines.push(`  namespace ${namespace} with everything in it`);
  if (kept.length > 0) lines.push("kept, because they were there before Tulle:", ...kept.map((what) => `  ${what}`));
  return lines.map((line) => `${line}\n`).join("");
}

export async function purge(store: Store, { crds, namespace }: Purge, progress: Progress): Promise<void> {
  for (const { name } of crds) await store.delete(CUSTOM_RESOURCE_DEFINITION, { name });
  if (crds.length > 0) progress.done(`${crds.length} schemas (CRDs) removed`);
  if (namespace === undefined) return;
  await store.delete(NAMESPACE, { name: namespace });
  progress.done(`Namespace ${namespace} removed`);
}

async function objectsOf(store: Store, crd: CustomResourceDefinition): Promise<string[]> {
  const kind = kindOfCrd(crd);
  if (kind === undefined) return [];
  const objects = await store.list(kind);
  return objects
    .map(({ metadata }) =>
      metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`,
    )
    .toSorted();
}

function kindOfCrd({ spec }: CustomResourceDefinition): ResourceKind | undefined {
  const version = spec?.versions?.find(({ storage }) => storage === true)?.name;
  const { plural, kind } = spec?.names ?? {};
  if (spec?.group === undefined || version === undefined || plural === undefined || kind === undefined)
    return undefined;
  return { group: spec.group, version, kind, plural, namespaced: spec["scope" as keyof typeof spec] !== "Cluster" };
}
