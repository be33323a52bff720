import type { KubeObject, ResourceKind, Selection } from "../contract.ts";
import { apiVersionOf } from "../kinds.ts";
import type { KubeApi } from "./kube-api.ts";
import { isExpired } from "./kube-error.ts";
import { collectionPath, describe, selectionQuery } from "./kube-path.ts";

export interface KubeList<T> {
  readonly items: readonly T[];
  /** From here a watch goes on. */
  readonly resourceVersion: string;
}

/** Objects in one answer: large enough for few round trips, small enough that no answer blocks the API server. */
export const PAGE_SIZE = 500;
/** A list whose continuation expired begins again, so often; then it fails and the caller backs off. */
const MAX_RESTARTS = 3;

interface ListAnswer<T> {
  readonly metadata: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly T[] | null;
}

/** All objects of a selection at one moment, page by page. Items have apiVersion and kind, which the API leaves out. */
export async function listAll<T extends KubeObject>(
  api: KubeApi,
  kind: ResourceKind<T>,
  selection: Selection | undefined,
  options: { readonly pageSize: number; readonly signal?: AbortSignal | undefined },
): Promise<KubeList<T>> {
  let items: T[] = [];
  let token: string | undefined;
  let restarts = 0;
  for (;;) {
    let page: ListAnswer<T>;
    try {
      page = await api.request("GET", collectionPath(kind, selection?.namespace), {
        what: describe("list", kind, selection ?? {}),
        query: { ...selectionQuery(selection), limit: String(options.pageSize), continue: token },
        signal: options.signal,
      });
    } catch (error) {
      if (token === undefined || !isExpired(error) || restarts === MAX_RESTARTS) throw error;
      restarts += 1;
      items = [];
      token = undefined;
      continue;
    }
    for (const item of page.items ?? []) items.push(tidy(kind, item));
    token = page.metadata.continue === "" ? undefined : page.metadata.continue;
    if (token === undefined) return { items, resourceVersion: page.metadata.resourceVersion ?? "0" };
  }
}

/**
 * An object as it is kept: with apiVersion and kind, which the API leaves out of lists, and without managed fields, which are
 * often a third of an object and which nobody here reads.
 */
export function tidy<T extends KubeObject>(kind: ResourceKind<T>, object: T): T {
  const { managedFields: _managedFields, ...metadata } = object.metadata as KubeObject["metadata"] & {
    readonly managedFields?: unknown;
  };
  return { ...object, apiVersion: apiVersionOf(kind), kind: kind.kind, metadata };
}
