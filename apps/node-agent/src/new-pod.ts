import { sleep } from "@tulle/base";
import { type ObjectRef, type Store, StoreError, type Watch } from "@tulle/store";
import type { PodKeeper } from "./lifecycle/keeper.ts";
import type { NamespaceFolder } from "./namespaces/namespace-folder.ts";
import { PODS, type Pod } from "./objects.ts";
import type { NewPod } from "./sockets/plugin-server.ts";

export interface NewPodParts {
  readonly store: Pick<Store, "get">;
  readonly keeper: Pick<PodKeeper, "addNew" | "decisionOf">;
  readonly namespaces: NamespaceFolder;
  readonly known: Pick<Watch<Pod>, "get">;
  readonly nodeName: string;
}

/** A namespace object that has just been made may come a moment after its first pod. */
const DECIDE_TRIES = 10;
const DECIDE_PAUSE_MS = 50;
/** The plugin waits for five seconds in all. */
const ASK_MS = 1500;

/** What the plugin asks: may this pod start? Resolves when it is captured or is none of the mesh's. Rejects with why not. */
export async function addNewPod(request: NewPod, parts: NewPodParts): Promise<void> {
  const { keeper, namespaces, nodeName } = parts;
  const ref = { namespace: request.namespace, name: request.name };
  const name = `${ref.namespace}/${ref.name}`;
  const pod = await newest(ref, parts);
  if (pod === undefined) throw new Error(`pod ${name} is not known to the API`);
  if (pod.spec?.nodeName !== nodeName) {
    throw new Error(
      `pod ${name} belongs to node ${pod.spec?.nodeName ?? "(none)"}, and this is the agent of ${nodeName}`,
    );
  }
  let decision = keeper.decisionOf(pod);
  for (let i = 0; i < DECIDE_TRIES && decision.kind === "unknown"; i++) {
    await sleep(DECIDE_PAUSE_MS);
    decision = keeper.decisionOf(pod);
  }
  if (decision.kind === "leave") return;
  if (decision.kind === "unknown")
    throw new Error(`whether pod ${name} belongs into the mesh is not known: ${decision.reason}`);
  await keeper.addNew(pod, request.ips, () => namespaces.openHandedIn(request.netns, request.ips));
}

/**
 * A pod of a former time may have had the same name, and the watch may lag behind: the API is asked. While it is away,
 * what the watch has is all that can be known, and sandboxes must be made anew all the same.
 */
async function newest(ref: ObjectRef, { store, known }: NewPodParts): Promise<Pod | undefined> {
  const asked = store.get(PODS, ref).catch((error: unknown) => {
    if (error instanceof StoreError && error.code === "UNAVAILABLE") return undefined;
    throw error;
  });
  const waited = new AbortController();
  try {
    return (await Promise.race([asked, sleep(ASK_MS, waited.signal)])) ?? known.get(ref);
  } finally {
    waited.abort();
    // Nobody waits for a late refusal.
    asked.catch(() => undefined);
  }
}
