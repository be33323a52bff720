import { isDeepStrictEqual } from "node:util";
import type { Log } from "@tulle/base";
import { DEPLOYMENT, type ResourceKind, type Store } from "@tulle/store";
import { type Deployment, type DeploymentStatus, keyOf } from "../resources/kinds.ts";
import { deploymentOf } from "./pod-template.ts";
import { isReady, type Pod } from "./pod.ts";
import { Reconciler } from "./reconciler.ts";
import { TEMPLATE_HASH_LABEL } from "./replicas.ts";
import { MANAGER } from "./status-writer.ts";
import { NO_OBJECTS, type Objects } from "./view.ts";

const DEPLOYMENTS = DEPLOYMENT as ResourceKind<Deployment>;

/** How far a Deployment is; `hash` is that of its template as it is now. */
export function deploymentStatus(deployment: Deployment, pods: readonly Pod[], hash: string): DeploymentStatus {
  const own = pods.filter(
    (pod) => deploymentOf(pod) === keyOf(deployment) && pod.metadata.deletionTimestamp === undefined,
  );
  const ready = own.filter(isReady).length;
  const updated = own.filter(({ metadata }) => metadata.labels[TEMPLATE_HASH_LABEL] === hash).length;
  const wanted = deployment.spec.replicas ?? 1;
  return {
    observedGeneration: deployment.metadata.generation ?? 0,
    replicas: own.length,
    updatedReplicas: updated,
    readyReplicas: ready,
    availableReplicas: ready,
    unavailableReplicas: Math.max(0, wanted - ready),
  };
}

/** Writes the Deployments' status. */
export class DeploymentStatuses {
  readonly #store: Pick<Store, "apply">;
  readonly #hashOf: (deployment: Deployment) => string;
  readonly #reconciler: Reconciler;
  #objects: Objects = NO_OBJECTS;

  constructor(options: {
    readonly store: Pick<Store, "apply">;
    readonly hashOf: (deployment: Deployment) => string;
    readonly log: Log;
  }) {
    this.#store = options.store;
    this.#hashOf = options.hashOf;
    this.#reconciler = new Reconciler({
      work: () => this.#reconcile(),
      complaint: "the Deployments' status is behind",
      log: options.log,
    });
  }

  update(objects: Objects): void {
    this.#objects = objects;
    this.#reconciler.poke();
  }

  close(): Promise<void> {
    return this.#reconciler.close();
  }

  async #reconcile(): Promise<void> {
    const { deployments, pods } = this.#objects;
    for (const deployment of deployments) await this.#write(deployment, pods);
  }

  async #write(deployment: Deployment, pods: readonly Pod[]): Promise<void> {
    const { apiVersion, kind, metadata } = deployment;
    const status = deploymentStatus(deployment, pods, this.#hashOf(deployment));
    const { observedGeneration, replicas, updatedReplicas, readyReplicas, availableReplicas, unavailableReplicas } =
      deployment.status ?? {};
    const known = {
      observedGeneration,
      replicas,
      updatedReplicas,
      readyReplicas,
      availableReplicas,
      unavailableReplicas,
    };
    if (isDeepStrictEqual(known, status)) return;
    const { name, namespace, uid } = metadata;
    const object = { apiVersion, kind, metadata: { name, namespace, ...(uid === undefined ? {} : { uid }) }, status };
    try {
      await this.#store.apply(DEPLOYMENTS, object, { manager: MANAGER, subresource: "status" });
    } catch (error) {
      // It is gone, or another has its name.
      const { code } = error as { readonly code?: unknown };
      if (code !== "CONFLICT" && code !== "NOT_FOUND") throw error;
    }
  }
}
