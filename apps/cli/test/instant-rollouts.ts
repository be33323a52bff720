import { CONFIG_MAP, DAEMON_SET, DEPLOYMENT, type KubeObject, type Store } from "@tulle/store";

/** Stands in for controllers and nodes: every Deployment and DaemonSet is ready at once. */
export function instantRollouts(store: Store): Disposable {
  const ready = (kind: typeof DEPLOYMENT | typeof DAEMON_SET, object: KubeObject) => {
    const observedGeneration = object.metadata.generation ?? 1;
    if ((object["status"] as { observedGeneration?: number } | undefined)?.observedGeneration === observedGeneration)
      return;
    const status =
      kind.kind === DEPLOYMENT.kind
        ? { observedGeneration, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1 }
        : {
            observedGeneration,
            currentNumberScheduled: 2,
            desiredNumberScheduled: 2,
            updatedNumberScheduled: 2,
            numberReady: 2,
            numberAvailable: 2,
            numberMisscheduled: 0,
          };
    if (kind.kind === DEPLOYMENT.kind) {
      // What the control plane writes once it runs.
      const { namespace = "" } = object.metadata;
      const metadata = { name: "istio-ca-root-cert", namespace, labels: { "istio.io/config": "true" } };
      const roots = { apiVersion: "v1", kind: "ConfigMap", metadata, data: { "root-cert.pem": "" } };
      store.apply(CONFIG_MAP, roots, { manager: "double" }).catch(() => {});
    }
    // The object may be gone or newer already: the next event follows then.
    store.patch(kind, object.metadata, { type: "merge", body: { status } }, { subresource: "status" }).catch(() => {});
  };
  const watches = [DEPLOYMENT, DAEMON_SET].map((kind) =>
    store.watch(kind as typeof DEPLOYMENT, { put: (object) => ready(kind, object), gone() {} }),
  );
  return { [Symbol.dispose]: () => watches.forEach((watch) => watch.close()) };
}
