import { parsePort } from "@tulle/base";
import type { MeshSettings } from "../context.ts";
import { type KubePolicy, type Labels, nameOf, namespaceOf } from "../kubernetes.ts";
import type { Mtls } from "./mutual-tls.ts";
import { isPresent, isRecord, readSelector } from "./spec.ts";

/** One PeerAuthentication, read. */
export interface PeerAuthenticationRule {
  readonly namespace: string;
  readonly name: string;
  readonly generation: number | undefined;
  /** Milliseconds since the epoch; of several on one level the oldest counts. */
  readonly created: number;
  readonly selector: Labels | undefined;
  /** undefined: what the level above asks for. */
  readonly mode: Mtls | undefined;
  /** Only of policies with a selector, outside the root namespace. */
  readonly ports: ReadonlyMap<number, Mtls>;
  /** What cannot be read. */
  readonly problems: readonly string[];
  /** What is read but does not do what one may think. */
  readonly notes: readonly string[];
}

export type PeerAuthenticationSettings = Pick<MeshSettings, "rootNamespace">;

/** Names of fields come from users, and end up in a condition. */
const MAX_NAME = 64;

const FIELDS: ReadonlySet<string> = new Set(["selector", "mtls", "portLevelMtls"]);

/** What cannot be read counts as STRICT: for its port if that is known, else for everything that the policy covers. */
export function readPeerAuthentication(from: KubePolicy, settings: PeerAuthenticationSettings): PeerAuthenticationRule {
  const namespace = namespaceOf(from);
  const spec = isRecord(from.spec) ? from.spec : {};
  const { portLevelMtls, mtls } = spec;
  /** Nobody knows which connections they are about. */
  const problems = Object.keys(spec).filter((name) => !FIELDS.has(name));
  const portProblems: string[] = [];
  const notes = new Set<string>();
  if (isPresent(from.spec) && !isRecord(from.spec)) problems.push("spec");
  const selector = readSelector(spec["selector"]);
  if (selector === "malformed") problems.push("selector");
  const labels = selector === "malformed" ? undefined : selector;
  if (isPresent(portLevelMtls) && !isRecord(portLevelMtls)) problems.push("portLevelMtls");
  const entries = Object.entries(isRecord(portLevelMtls) ? portLevelMtls : {});
  const counts = labels !== undefined && namespace !== settings.rootNamespace;
  if (labels === undefined && entries.length > 0) notes.add("portLevelMtls has no effect without a selector");
  const ports = new Map<number, Mtls>();
  for (const [text, setting] of counts ? entries : []) {
    const port = parsePort(text);
    const mode = readMode(setting, notes);
    if (port === undefined || port === 0) problems.push(`portLevelMtls.${text}`);
    else if (mode === "malformed") portProblems.push(`portLevelMtls.${text}`);
    if (port !== undefined && mode !== undefined) ports.set(port, mode === "malformed" ? "strict" : mode);
  }
  const mode = readMode(mtls, notes);
  if (mode === "malformed") problems.push("mtls.mode");
  return {
    namespace,
    name: nameOf(from),
    generation: from.metadata?.generation,
    created: new Date(from.metadata?.creationTimestamp ?? 0).getTime() || 0,
    selector: labels,
    mode: mode === "malformed" || problems.length > 0 ? "strict" : mode,
    ports,
    problems: [...problems, ...portProblems].map((name) => name.slice(0, MAX_NAME)),
    notes: [...notes],
  };
}

function readMode(setting: unknown, notes: Set<string>): Mtls | "malformed" | undefined {
  if (!isPresent(setting)) return undefined;
  if (!isRecord(setting) || Object.keys(setting).some((name) => name !== "mode")) return "malformed";
  switch (setting["mode"]) {
    case undefined:
    case null:
    case "UNSET":
      return undefined;
    case "STRICT":
      return "strict";
    case "DISABLE":
      notes.add("DISABLE counts as PERMISSIVE, for ztunnel never refuses mutual TLS");
      return "permissive";
    case "PERMISSIVE":
      return "permissive";
    default:
      return "malformed";
  }
}
