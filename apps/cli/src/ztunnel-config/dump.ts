import { CliError } from "../cli-error.ts";

/** The parts of ztunnel's `/config_dump` that are shown (spec: l4-ztunnel §9.1); another ztunnel's dump reads alike. */

export interface Dump {
  readonly workloads: readonly WorkloadDump[];
  readonly services: readonly ServiceDump[];
  readonly policies: readonly PolicyDump[];
  readonly certificates: readonly CertificateDump[];
  readonly workloadState: Readonly<Record<string, WorkloadStateDump>>;
}

export interface WorkloadDump {
  readonly uid?: string;
  readonly name: string;
  readonly namespace: string;
  readonly workloadIps?: readonly string[];
  readonly hostname?: string;
  readonly node?: string;
  readonly protocol?: string;
  readonly status?: string;
  readonly serviceAccount?: string;
  readonly network?: string;
  readonly clusterId?: string;
  readonly trustDomain?: string;
  readonly authorizationPolicies?: readonly string[];
  readonly waypoint?: WaypointDump;
}

export interface WaypointDump {
  /** `namespace/hostname`, or `network/address`. */
  readonly destination: string;
}

export interface ServiceDump {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  /** `network/address`. */
  readonly vips?: readonly string[];
  /** Port of the service → port of its pods. */
  readonly ports?: Readonly<Record<string, number>>;
  readonly subjectAltNames?: readonly string[];
  readonly loadBalancer?: { readonly mode?: string };
  readonly waypoint?: WaypointDump;
  readonly endpoints?: Readonly<Record<string, { readonly workloadUid?: string; readonly status?: string }>>;
}

export interface PolicyDump {
  readonly name: string;
  readonly namespace: string;
  readonly scope: string;
  readonly action: string;
  readonly dryRun?: boolean;
  /** Rules, of each its clauses, of each its matches. */
  readonly rules?: readonly (readonly (readonly Readonly<Record<string, unknown>>[])[])[];
}

export interface CertificateDump {
  readonly identity: string;
  /** A text, or for some states an object that holds the reason. */
  readonly state: unknown;
  readonly certChain?: readonly CertificateFactsDump[];
  readonly rootCerts?: readonly CertificateFactsDump[];
}

export interface CertificateFactsDump {
  /** base64 of PEM. */
  readonly pem?: string;
  /** Decimal. */
  readonly serialNumber: string;
  /** RFC 3339. */
  readonly validFrom: string;
  readonly expirationTime: string;
}

export interface WorkloadStateDump {
  readonly state: string;
  readonly connections?: {
    readonly inbound?: readonly ConnectionDump[];
    readonly outbound?: readonly ConnectionDump[];
  };
  readonly info?: { readonly name: string; readonly namespace: string; readonly serviceAccount?: string };
}

export interface ConnectionDump {
  readonly src: string;
  readonly originalDst?: string | null;
  readonly actualDst: string;
  readonly protocol: string;
}

/** Throws CliError. Old ztunnels have maps where new ones have lists. */
export function parseDump(text: string, where: string): Dump & { readonly raw: object } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CliError(`${where} is not JSON`, "give what ztunnel answers to GET /config_dump", cause);
  }
  if (typeof value !== "object" || value === null || !("workloads" in value)) {
    throw new CliError(`${where} is not a ztunnel's configuration`, "give what ztunnel answers to GET /config_dump");
  }
  const fields = value as Readonly<Record<string, unknown>>;
  return {
    raw: value,
    workloads: listOf(fields["workloads"]) as Dump["workloads"],
    services: listOf(fields["services"]) as Dump["services"],
    policies: listOf(fields["policies"]) as Dump["policies"],
    certificates: listOf(fields["certificates"]) as Dump["certificates"],
    workloadState: Object.fromEntries(
      Object.entries(fields["workloadState"] ?? {}).filter(([, state]) => isObject(state)),
    ) as Dump["workloadState"],
  };
}

/** What is no object has nothing to show. */
function listOf(value: unknown): readonly unknown[] {
  return isObject(value) ? Object.values(value).filter(isObject) : [];
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
