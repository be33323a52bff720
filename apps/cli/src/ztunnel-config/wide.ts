import type {
  CertificateDump,
  CertificateFactsDump,
  ConnectionDump,
  PolicyDump,
  ServiceDump,
  WorkloadDump,
  WorkloadStateDump,
} from "./dump.ts";

/** What `-o wide` adds at the right of ztunnel-config's tables: titles, and the cells of one row. */
export interface Extra<T> {
  readonly titles: readonly string[];
  readonly cells: (entry: T) => readonly string[];
}

type Match = Readonly<Record<string, unknown>> | null;

export interface CertificateRow {
  readonly entry: CertificateDump;
  /** Undefined: there is no certificate. */
  readonly facts: CertificateFactsDump | undefined;
}

export interface ConnectionRow {
  readonly state: WorkloadStateDump;
  readonly connection: ConnectionDump;
  readonly direction: "inbound" | "outbound";
}

const UNKNOWN = "NA";
/** Any value, but one must be there. */
const PRESENT = "*";

export const WIDE_WORKLOAD: Extra<WorkloadDump> = {
  titles: ["SERVICE ACCOUNT", "STATUS", "NETWORK", "CLUSTER", "TRUST DOMAIN", "POLICIES", "UID"],
  cells: ({ serviceAccount, status, network, clusterId, trustDomain, authorizationPolicies, uid }) => [
    serviceAccount ?? "",
    status ?? "",
    network ?? "",
    clusterId ?? "",
    trustDomain ?? "",
    (authorizationPolicies ?? []).join(","),
    uid ?? "",
  ],
};

export const WIDE_SERVICE: Extra<ServiceDump> = {
  titles: ["PORTS", "LOAD BALANCER", "SANS", "HOSTNAME"],
  cells: ({ ports, loadBalancer, subjectAltNames, hostname }) => [
    portsText(ports),
    loadBalancer?.mode ?? "",
    (subjectAltNames ?? []).join(","),
    hostname,
  ],
};

export const WIDE_POLICY: Extra<PolicyDump> = {
  titles: ["DRY RUN", "RULES"],
  cells: ({ dryRun, rules }) => [dryRun === undefined ? "" : String(dryRun), rulesText(rules)],
};

export const WIDE_CERTIFICATE: Extra<CertificateRow> = {
  titles: ["ISSUER", "SHA-256 FINGERPRINT", "REASON"],
  cells: ({ entry, facts }) => [...issuerAndFingerprint(facts), reasonOf(entry)],
};

export const WIDE_CONNECTION: Extra<ConnectionRow> = {
  titles: ["LOCAL ADDRESS", "REMOTE ADDRESS", "TARGET ADDRESS", "SERVICE ACCOUNT", "STATE"],
  cells: ({ state, connection: { src, actualDst, originalDst }, direction }) => [
    direction === "inbound" ? actualDst : src,
    direction === "inbound" ? src : actualDst,
    originalDst ?? "",
    state.info?.serviceAccount ?? "",
    state.state,
  ],
};

/** `80,443:8443`: the service's port, and the pods' where it is another. */
function portsText(ports: ServiceDump["ports"]): string {
  return Object.entries(ports ?? {})
    .map(([port, target]) => (Number(port) === target ? port : `${port}:${target}`))
    .join(",");
}

/** One rule must match; of a rule all clauses, of a clause one match, of a match all fields. */
function rulesText(rules: PolicyDump["rules"]): string {
  if (rules === undefined || rules.length === 0) return "none";
  return rules.map((clauses) => clauses.map(clauseText).join(" and ") || "any").join("; ");
}

function clauseText(matches: readonly Match[]): string {
  const text = matches.map(matchText).join(" or ");
  return matches.length > 1 ? `(${text})` : text;
}

function matchText(match: Match): string {
  if (match === null) return "any";
  const fields = Object.entries(match).map(([field, values]) => {
    const list = Array.isArray(values) ? values : [values];
    return `${field}=${list.map(valueText).join(",")}`;
  });
  return fields.join(" ") || "any";
}

/** `{"Prefix": "a"}` is `a*`, as it is written in a policy. */
function valueText(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  const { Exact, Prefix, Suffix, Presence, namespace, name } = value as Readonly<Record<string, unknown>>;
  if (typeof Exact === "string") return Exact;
  if (typeof Prefix === "string") return `${Prefix}*`;
  if (typeof Suffix === "string") return `*${Suffix}`;
  if (Presence !== undefined) return PRESENT;
  if (typeof namespace === "string" && typeof name === "string") return `${namespace}/${name}`;
  return JSON.stringify(value);
}

/** From the certificate itself, which ztunnel gives as base64 of PEM. */
function issuerAndFingerprint(facts: CertificateFactsDump | undefined): readonly [string, string] {
  if (facts?.pem === undefined) return [UNKNOWN, UNKNOWN];
  try {
    // Loaded for the first certificate only: commands start faster without it.
    const { X509Certificate } = process.getBuiltinModule("node:crypto");
    const { issuer, fingerprint256 } = new X509Certificate(Buffer.from(facts.pem, "base64"));
    return [issuer.replaceAll("\n", ", "), fingerprint256.replaceAll(":", "").toLowerCase()];
  } catch {
    // A dump may come from anywhere; the other columns still say what it says.
    return [UNKNOWN, UNKNOWN];
  }
}

function reasonOf({ state }: CertificateDump): string {
  if (typeof state === "string") return /^Unavailable: (.*)$/s.exec(state)?.[1] ?? "";
  const reason = (state as { readonly Unavailable?: unknown } | null | undefined)?.Unavailable;
  return typeof reason === "string" ? reason : "";
}
