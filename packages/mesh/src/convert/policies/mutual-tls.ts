import { newMatch, newPolicy } from "../../defaults.ts";
import type { Policy } from "../../model.ts";
import type { PeerAuthenticationRule } from "./peer-authentication-spec.ts";

/** `strict`: plaintext is refused. `permissive`: plaintext and mutual TLS are taken. */
export type Mtls = "strict" | "permissive";

/** What PeerAuthentications come to for one pod. */
export interface EffectiveMtls {
  readonly base: Mtls;
  /** Ports with the other mode, in ascending order. */
  readonly exceptions: readonly number[];
}

const STATIC_STRICT = "istio_converted_static_strict";
const CONVERTED_PREFIX = "converted_peer_authentication_";

const PLAINTEXT = newMatch({ notPrincipals: [{ kind: "presence" }] });

/** `rule`: the workload's own, if any. `parent`: the namespace's mode, else the mesh's, else permissive. */
export function effectiveMtls(rule: PeerAuthenticationRule | undefined, parent: Mtls): EffectiveMtls {
  const base = rule?.mode ?? parent;
  const different = [...(rule?.ports ?? [])].filter(([, mode]) => mode !== base).map(([port]) => port);
  return { base, exceptions: different.sort((a, b) => a - b) };
}

export function refusesPlaintext({ base, exceptions }: EffectiveMtls, port: number): boolean {
  return (base === "strict") !== exceptions.includes(port);
}

/** Under STRICT: everything but the exempt ports. Otherwise: the STRICT ports. undefined: no port differs. */
export function portPolicy(rule: PeerAuthenticationRule, parent: Mtls): Policy | undefined {
  const { base, exceptions } = effectiveMtls(rule, parent);
  if (exceptions.length === 0) return undefined;
  const rules =
    base === "strict"
      ? [[[PLAINTEXT], ...exceptions.map((port) => [newMatch({ notDestinationPorts: [port] })])]]
      : exceptions.map((port) => [[{ ...PLAINTEXT, destinationPorts: [port] }]]);
  const name = portPolicyName(rule);
  return newPolicy({ name, namespace: rule.namespace, scope: "WorkloadSelector", action: "Deny", rules });
}

export function portPolicyName(rule: PeerAuthenticationRule): string {
  return `${CONVERTED_PREFIX}${rule.name}`;
}

/** Denies plaintext; for every workload that names it. */
export function staticStrictPolicy(rootNamespace: string): Policy {
  const rules = [[[PLAINTEXT]]];
  return newPolicy({ name: STATIC_STRICT, namespace: rootNamespace, scope: "WorkloadSelector", action: "Deny", rules });
}
