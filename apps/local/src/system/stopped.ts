import {
  BOOT_ID_ANNOTATION,
  LEAVING_ANNOTATION,
  LEFT_ANNOTATION,
  PID_ANNOTATION,
  REDIRECTION_ANNOTATION,
} from "@tulle/base";
import { type Store, StoreError } from "@tulle/store";
import { type Pod, PODS } from "../objects/pod.ts";
import { MANAGER } from "../objects/status-writer.ts";

const CLAIMS = [REDIRECTION_ANNOTATION, BOOT_ID_ANNOTATION, LEAVING_ANNOTATION, LEFT_ANNOTATION, PID_ANNOTATION];

/**
 * Writes down that nothing runs: no pod has a network, nobody captures one. At the end of a run, and at the beginning of the
 * next for one that did not come to its end. Names, uids, nodes and addresses stay as they are.
 */
export async function markStopped(store: Store): Promise<void> {
  for (const pod of await store.list(PODS)) {
    try {
      await markPod(store, pod);
    } catch (error) {
      if (!(error instanceof StoreError) || (error.code !== "NOT_FOUND" && error.code !== "CONFLICT")) throw error;
    }
  }
}

async function markPod(store: Store, { apiVersion, kind, metadata }: Pod): Promise<void> {
  const { name, namespace, uid } = metadata;
  const ref = { name, namespace, ...(uid === undefined ? {} : { uid }) };
  const ready = { type: "Ready", status: "False", reason: "MeshStopped", message: "the local mesh does not run" };
  const stopped = { apiVersion, kind, metadata: ref, status: { phase: "Pending", conditions: [ready] } };
  const options = { subresource: "status" } as const;
  const { status, metadata: now } = await store.apply<Pod>(PODS, stopped, { ...options, manager: MANAGER });
  const claims = CLAIMS.filter((key) => now.annotations?.[key] !== undefined);
  const conditions = status?.conditions?.filter(({ type }) => type === "Ready") ?? [];
  // What the node agent has said of the pod is no longer so.
  if (claims.length === 0 && conditions.length === status?.conditions?.length) return;
  const annotations = Object.fromEntries(claims.map((key) => [key, null]));
  const body = { metadata: { ...(uid === undefined ? {} : { uid }), annotations }, status: { conditions } };
  await store.patch(PODS, { name, namespace }, { type: "merge", body }, options);
}
