import type { KubeObject } from "@tulle/store";
import { INSTALLATION_LABEL, type ManifestInput } from "./common.ts";
import { controlPlaneObjects } from "./control-plane.ts";
import { meshConfigMap, namespaceObject } from "./mesh-config.ts";
import { nodeAgentObjects } from "./node-agent.ts";
import { ztunnelObjects } from "./ztunnel.ts";

/** All objects of an installation, in the order in which they are applied. */
export function manifests(input: ManifestInput, crds: readonly KubeObject[]): KubeObject[] {
  return [
    namespaceObject(input),
    ...crds.map((crd) => ours(crd, input.namespace)),
    meshConfigMap(input),
    ...controlPlaneObjects(input),
    ...ztunnelObjects(input),
    ...nodeAgentObjects(input),
  ];
}

function ours(crd: KubeObject, namespace: string): KubeObject {
  const { labels, ...metadata } = crd.metadata;
  return { ...crd, metadata: { ...metadata, labels: { ...labels, [INSTALLATION_LABEL]: namespace } } };
}
