import { DEFAULT_TRUST_DOMAIN, MESH_CONFIG_KEY, MESH_CONFIG_MAP } from "@tulle/base";
import type { KubeObject } from "@tulle/store";
import { stringify } from "yaml";
import { merge } from "../values.ts";
import { ISTIOD, labelsOf, type ManifestInput } from "./common.ts";

/** Namespace of the installation and MeshConfig, which every part and many tools read (spec: control-plane §1.5, §9). */

export function namespaceObject(input: ManifestInput): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: input.namespace, labels: labelsOf(input, "istio-system") },
  };
}

export function meshConfigMap(input: ManifestInput): KubeObject {
  const { values, namespace } = input;
  const mesh = merge(
    {
      defaultConfig: { discoveryAddress: `${ISTIOD}.${namespace}.svc:15012` },
      enablePrometheusMerge: true,
      rootNamespace: namespace,
      trustDomain: DEFAULT_TRUST_DOMAIN,
    },
    values.meshConfig,
  );
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: MESH_CONFIG_MAP, namespace, labels: labelsOf(input, ISTIOD) },
    data: { [MESH_CONFIG_KEY]: stringify(mesh, { sortMapEntries: true }), meshNetworks: "networks: {}\n" },
  };
}
