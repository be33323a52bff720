import type { KubeObject } from "@tulle/store";
import type { Tree } from "../value-fields.ts";
import { labelsOf, type ManifestInput } from "./common.ts";

/** Roles: the least that a part needs. */

export interface Rule extends Tree {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

export interface Grant {
  readonly part: string;
  /** Name of the role; a cluster role's gets the namespace behind it, because there may be other meshes. */
  readonly role: string;
  readonly serviceAccount: string;
  readonly rules: readonly Rule[];
}

export const READ = ["get", "list", "watch"];

const RBAC = "rbac.authorization.k8s.io";

export function serviceAccount(input: ManifestInput, part: string, name: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name, namespace: input.namespace, labels: labelsOf(input, part) },
    ...(input.values["global.imagePullSecrets"].length > 0 && {
      imagePullSecrets: input.values["global.imagePullSecrets"].map((secret) => ({ name: secret })),
    }),
  };
}

/** A cluster role and its binding. */
export function clusterGrant(
  input: ManifestInput,
  { part, role, serviceAccount: account, rules }: Grant,
): KubeObject[] {
  const name = `${role}-${input.namespace}`;
  const metadata = { name, labels: labelsOf(input, part) };
  return [
    { apiVersion: `${RBAC}/v1`, kind: "ClusterRole", metadata, rules },
    {
      apiVersion: `${RBAC}/v1`,
      kind: "ClusterRoleBinding",
      metadata,
      roleRef: { apiGroup: RBAC, kind: "ClusterRole", name },
      subjects: [{ kind: "ServiceAccount", name: account, namespace: input.namespace }],
    },
  ];
}

/** A role in the release namespace and its binding. */
export function namespaceGrant(
  input: ManifestInput,
  { part, role, serviceAccount: account, rules }: Grant,
): KubeObject[] {
  const metadata = { name: role, namespace: input.namespace, labels: labelsOf(input, part) };
  return [
    { apiVersion: `${RBAC}/v1`, kind: "Role", metadata, rules },
    {
      apiVersion: `${RBAC}/v1`,
      kind: "RoleBinding",
      metadata,
      roleRef: { apiGroup: RBAC, kind: "Role", name: role },
      subjects: [{ kind: "ServiceAccount", name: account, namespace: input.namespace }],
    },
  ];
}
