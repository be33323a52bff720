import { parsePort } from "@tulle/base";
import { newMatch, newPolicy } from "../defaults.ts";
import type { Policy, PolicyKey } from "../model.ts";
import { isRecord } from "./attributes.ts";
import { readSelector } from "./authorization-policy.ts";
import { type MeshSettings, type ObjectStatus, statusOf } from "./context.ts";
import { type KubePolicy, type Labels, nameOf, namespaceOf, selects } from "./kubernetes.ts";

/** What mutual TLS a level asks for; undefined: what the level above asks for. */
type Strictness = "strict" | "permissive" | undefined;

/** One PeerAuthentication, read. */
export interface PeerAuthenticationRule {
  readonly namespace: string;
  readonly name: string;
  /** Milliseconds since the epoch; of several on one level the oldest counts. */
  readonly created: number;
  readonly selector: Labels | undefined;
  readonly mode: Strictness;
  /** Only of policies with a selector, outside the root namespace. */
  readonly ports: ReadonlyMap<number, "strict" | "permissive">;
  readonly status: ObjectStatus | undefined;
}

const STATIC_STRICT = "istio_converted_static_strict";
const CONVERTED_PREFIX = "converted_peer_authentication_";

const PLAINTEXT = newMatch({ notPrincipals: [{ kind: "presence" }] });

/** A mode or port that cannot be read counts as STRICT, and the status says so. */
export function readPeerAuthentication(from: KubePolicy, settings: MeshSettings): PeerAuthenticationRule {
  const problems: string[] = [];
  const spec = isRecord(from.spec) ? from.spec : {};
  if (from.spec !== undefined && from.spec !== null && !isRecord(from.spec)) problems.push("spec");
  const selector = readSelector(spec["selector"]);
  if (selector === "malformed") problems.push("selector");
  const labels = selector === "malformed" ? undefined : selector;
  const ports = new Map<number, "strict" | "permissive">();
  if (labels !== undefined && namespaceOf(from) !== settings.rootNamespace && isRecord(spec["portLevelMtls"])) {
    for (const [text, setting] of Object.entries(spec["portLevelMtls"])) {
      const port = parsePort(text);
      const mode = modeOf(setting, () => problems.push(`portLevelMtls.${text}`));
      if (port === undefined) problems.push(`portLevelMtls.${text}`);
      else if (mode !== undefined) ports.set(port, mode);
    }
  }
  const mode = problems.includes("spec") ? "strict" : modeOf(spec["mtls"], () => problems.push("mtls.mode"));
  const { namespace, name } = { namespace: namespaceOf(from), name: nameOf(from) };
  return {
    namespace,
    name,
    created: new Date(from.metadata?.creationTimestamp ?? 0).getTime() || 0,
    selector: labels,
    mode,
    ports,
    status: problems.length === 0 ? undefined : invalid(from, problems),
  };
}

/** Every PeerAuthentication of the mesh, by the level on which it counts. */
export class PeerAuthentications {
  readonly #settings: MeshSettings;
  readonly #byNamespace = new Map<string, PeerAuthenticationRule[]>();
  readonly #mesh: Strictness;

  constructor(rules: Iterable<PeerAuthenticationRule>, settings: MeshSettings) {
    this.#settings = settings;
    const sorted = [...rules].sort((a, b) => a.created - b.created || (a.name < b.name ? -1 : 1));
    for (const rule of sorted) {
      const known = this.#byNamespace.get(rule.namespace);
      if (known === undefined) this.#byNamespace.set(rule.namespace, [rule]);
      else known.push(rule);
    }
    this.#mesh = this.#byNamespace.get(settings.rootNamespace)?.find((rule) => rule.selector === undefined)?.mode;
  }

  /** Policies that stand for them: the shared STRICT one (while there is any) and one for each with port exceptions. */
  policies(): readonly Policy[] {
    if (this.#byNamespace.size === 0) return [];
    const policies: Policy[] = [];
    for (const rules of this.#byNamespace.values()) {
      for (const rule of rules) {
        const converted = this.#portPolicy(rule);
        if (converted !== undefined) policies.push(converted);
      }
    }
    return [...policies, staticStrictPolicy(this.#settings.rootNamespace)];
  }

  /** The policy that a workload must name because of them; undefined: plaintext is welcome. */
  attached(namespace: string, labels: Labels | undefined): PolicyKey | undefined {
    const rule = this.#workloadRule(namespace, labels);
    const converted = rule && this.#portPolicy(rule);
    if (converted !== undefined) return `${converted.namespace}/${converted.name}`;
    return this.#base(namespace, rule) === "strict" ? `${this.#settings.rootNamespace}/${STATIC_STRICT}` : undefined;
  }

  #workloadRule(namespace: string, labels: Labels | undefined): PeerAuthenticationRule | undefined {
    // In the root namespace a selector has no meaning.
    if (namespace === this.#settings.rootNamespace) return undefined;
    const rules = this.#byNamespace.get(namespace) ?? [];
    return rules.find((rule) => rule.selector !== undefined && selects(rule.selector, labels));
  }

  /** Workload, then namespace, then mesh: the first that is set. */
  #base(namespace: string, rule: PeerAuthenticationRule | undefined): "strict" | "permissive" {
    const ofNamespace = this.#byNamespace.get(namespace)?.find(({ selector }) => selector === undefined)?.mode;
    return rule?.mode ?? ofNamespace ?? this.#mesh ?? "permissive";
  }

  /** Under STRICT: everything but the exempt ports. Otherwise: the STRICT ports. undefined: no port differs. */
  #portPolicy(rule: PeerAuthenticationRule): Policy | undefined {
    const base = this.#base(rule.namespace, rule);
    const different = [...rule.ports].filter(([, mode]) => mode !== base).map(([port]) => port);
    if (different.length === 0) return undefined;
    different.sort((a, b) => a - b);
    const rules =
      base === "strict"
        ? [[[PLAINTEXT], ...different.map((port) => [newMatch({ notDestinationPorts: [port] })])]]
        : different.map((port) => [[{ ...PLAINTEXT, destinationPorts: [port] }]]);
    const name = `${CONVERTED_PREFIX}${rule.name}`;
    return newPolicy({ name, namespace: rule.namespace, scope: "WorkloadSelector", action: "Deny", rules });
  }
}

/** Denies plaintext; for every workload that names it. */
export function staticStrictPolicy(rootNamespace: string): Policy {
  const rules = [[[PLAINTEXT]]];
  return newPolicy({ name: STATIC_STRICT, namespace: rootNamespace, scope: "WorkloadSelector", action: "Deny", rules });
}

function modeOf(setting: unknown, report: () => void): Strictness {
  if (setting === undefined || setting === null) return undefined;
  const { mode, ...others } = isRecord(setting) ? setting : { mode: "malformed" };
  if (Object.keys(others).length > 0) report();
  switch (mode) {
    case undefined:
    case null:
    case "UNSET":
      return undefined;
    case "STRICT":
      return "strict";
    case "PERMISSIVE":
    case "DISABLE":
      return "permissive";
    default:
      report();
      return "strict";
  }
}

function invalid(from: KubePolicy, problems: readonly string[]): ObjectStatus {
  const message = `cannot be read (${problems.join(", ")}): it counts as STRICT there`;
  return statusOf("PeerAuthentication", from, "istio-ambient-ztunnel-policy", [
    { type: "ZtunnelAccepted", status: "False", reason: "Invalid", message },
  ]);
}
