import {
  CUSTOM_RESOURCE_DEFINITION,
  kindOf,
  type KubeObject,
  NAMESPACE,
  type ResourceKind,
  resourceName,
  type Store,
} from "@tulle/store";
import { CliError } from "../cli-error.ts";
import { INSTALLATION_LABEL } from "./manifests/common.ts";

/** Puts objects into the cluster by server-side apply, and tells what changed. */

export type Outcome = "created" | "configured" | "unchanged" | "kept";

export interface Applied {
  readonly object: KubeObject;
  readonly outcome: Outcome;
  /** Why it was kept as it is. */
  readonly reason?: string;
}

/** Owner of the fields that an installation sets. */
export const FIELD_MANAGER = "tulle-install";
/** Gateway API's own mark: which release a schema is of. */
const BUNDLE_VERSION = "gateway.networking.k8s.io/bundle-version";
const CHANNEL = "gateway.networking.k8s.io/channel";

/** The kind of an object that we make ourselves. */
export function kindOfObject(object: KubeObject): ResourceKind {
  const kind = kindOf(object);
  if (kind === undefined) throw new Error(`no kind for ${object.apiVersion} ${object.kind}`);
  return kind;
}

/** With `dryRun` nothing is written; what would happen is told from what is there. Rejects with StoreError, CliError. */
export async function applyObject(store: Store, made: KubeObject, dryRun: boolean): Promise<Applied> {
  const kind = kindOfObject(made);
  const before = await store.get(kind, made.metadata);
  const object = before !== undefined && isOthers(kind, before) ? unclaimed(made) : made;
  if (before?.metadata.deletionTimestamp !== undefined) {
    throw new CliError(
      `${resourceName(kind)} ${object.metadata.name} is being deleted`,
      "wait until it is gone (kubectl get shows it), then try again",
    );
  }
  const reason = before === undefined ? undefined : reasonToKeep(kind, before, object);
  if (reason !== undefined) return { object, outcome: "kept", reason };
  // A schema is big enough for the API server to take its time; what is in it already needs no write.
  const isCrd = kind.kind === CUSTOM_RESOURCE_DEFINITION.kind;
  const unchanged = (dryRun || isCrd) && before !== undefined && includes(before, object);
  if (unchanged) return { object, outcome: "unchanged" };
  if (dryRun) return { object, outcome: before === undefined ? "created" : "configured" };
  const after = await store.apply(kind, object, { manager: FIELD_MANAGER });
  if (before === undefined) return { object, outcome: "created" };
  const same = before.metadata.resourceVersion === after.metadata.resourceVersion;
  return { object, outcome: same ? "unchanged" : "configured" };
}

/** A namespace or schema that was there before any installation of ours: it outlives this one, `--purge` or not. */
function isOthers(kind: ResourceKind, before: KubeObject): boolean {
  const shared = kind.kind === NAMESPACE.kind || kind.kind === CUSTOM_RESOURCE_DEFINITION.kind;
  return shared && before.metadata.labels?.[INSTALLATION_LABEL] === undefined;
}

/** Without the label by which uninstall knows what is its own. */
function unclaimed(object: KubeObject): KubeObject {
  const { [INSTALLATION_LABEL]: _ours, ...labels } = object.metadata.labels ?? {};
  const { labels: _all, ...metadata } = object.metadata;
  return { ...object, metadata: Object.keys(labels).length === 0 ? metadata : { ...metadata, labels } };
}

/** Schemas of Gateway API are shared with others: a newer release, or the wider channel, stays. */
function reasonToKeep(kind: ResourceKind, before: KubeObject, object: KubeObject): string | undefined {
  if (kind.kind === NAMESPACE.kind && isOthers(kind, before)) return "it was there before";
  if (kind.kind !== CUSTOM_RESOURCE_DEFINITION.kind) return undefined;
  const wanted = object.metadata.annotations?.[BUNDLE_VERSION];
  const there = before.metadata.annotations?.[BUNDLE_VERSION];
  if (wanted === undefined || there === undefined) return undefined;
  const channel = before.metadata.annotations?.[CHANNEL];
  if (channel !== undefined && channel !== object.metadata.annotations?.[CHANNEL]) {
    return `the cluster has the ${channel} channel of Gateway API ${there}`;
  }
  return isNewer(there, wanted) ? `the cluster has Gateway API ${there}` : undefined;
}

/** `v1.6.1` against `v1.6.0`; what is no such version is not newer. */
function isNewer(version: string, than: string): boolean {
  const numbers = (text: string) => /^v(\d+)\.(\d+)\.(\d+)/.exec(text)?.slice(1).map(Number) ?? [];
  const [a, b] = [numbers(version), numbers(than)];
  const index = a.findIndex((part, i) => part !== b[i]);
  return index >= 0 && (a[index] ?? 0) > (b[index] ?? 0);
}

/** Whether everything in `wanted` is in `there`. */
function includes(there: unknown, wanted: unknown): boolean {
  if (typeof wanted !== "object" || wanted === null) return there === wanted;
  if (Array.isArray(wanted)) {
    return (
      Array.isArray(there) && there.length === wanted.length && wanted.every((item, i) => includes(there[i], item))
    );
  }
  if (typeof there !== "object" || there === null) return Object.keys(wanted).length === 0 && there === undefined;
  const fields = there as Readonly<Record<string, unknown>>;
  return Object.entries(wanted).every(([key, value]) => includes(fields[key], value));
}
