import { canonicalIp, type Cidr, parseCidr } from "@tulle/base";
import type { ServiceEntry } from "@tulle/store";

/** One address that stands in an entry's status. */
export interface VipAddress {
  readonly value: string;
  readonly host: string;
}

/** A ServiceEntry as allocation sees it. */
export interface VipEntry {
  /** `namespace/name`. */
  readonly key: string;
  readonly object: ServiceEntry;
  /** Milliseconds since the epoch. */
  readonly created: number;
  /** That are to have addresses of ours. Empty: what stands in the status is stale. */
  readonly hosts: readonly string[];
  /** Set by the user, canonical. */
  readonly user: readonly string[];
  readonly userRanges: readonly Cidr[];
  /** What stands in the status; readable ones, canonical. */
  readonly auto: readonly VipAddress[];
  /** Whether there is anything in the status' list, readable or not. */
  readonly hasStatus: boolean;
}

/** `false`, in any case, opts out. */
const ALLOCATE_LABEL = "networking.istio.io/enable-autoallocate-ip";
/** An entry has at most so many hosts with addresses (the schema's own bound). */
const MAX_HOSTS = 256;

/** Which hosts get addresses: control-plane.md §2.5. */
export function readVipEntry(object: ServiceEntry): VipEntry {
  const { spec = {}, status, metadata } = object;
  const written = spec.addresses ?? [];
  const ranges = written.map(parseCidr).filter((range) => range !== undefined);
  const single = ({ bytes, bits }: Cidr) => bits === bytes.length * 8;
  const resolution = spec.resolution ?? "NONE";
  const optedOut = metadata.labels?.[ALLOCATE_LABEL]?.toLowerCase() === "false";
  const eligible =
    written.length === 0 && resolution !== "NONE" && !optedOut && metadata.deletionTimestamp === undefined;
  const hosts = (spec.hosts ?? []).filter(
    (host) => host !== "" && (!host.includes("*") || resolution === "DYNAMIC_DNS"),
  );
  const auto = (status?.addresses ?? []).flatMap(({ value, host }) => {
    const ip = value === undefined ? undefined : canonicalIp(value);
    return ip === undefined || host === undefined ? [] : { value: ip, host };
  });
  return {
    key: `${metadata.namespace ?? ""}/${metadata.name}`,
    object,
    created: new Date(metadata.creationTimestamp ?? 0).getTime() || 0,
    hosts: eligible ? [...new Set(hosts)].slice(0, MAX_HOSTS) : [],
    user: ranges.filter(single).map(({ ip }) => ip),
    userRanges: ranges.filter((range) => !single(range)),
    auto,
    hasStatus: (status?.addresses?.length ?? 0) > 0,
  };
}
