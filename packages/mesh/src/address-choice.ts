import { isIpv6 } from "@tulle/base";
import type { Service, Workload } from "./model.ts";

export type AddressChoice =
  | { readonly kind: "ip"; readonly ip: string }
  /** No address, but a name to look up. `preferred`: the family of the request. */
  | {
      readonly kind: "hostname";
      readonly hostname: string;
      readonly family: "IPv4" | "IPv6" | "any";
      readonly preferred: "IPv4" | "IPv6";
    }
  | { readonly kind: "none" };

/**
 * Which of a workload's addresses to connect to (§3.1): the requested one if it is the workload's; else one that the
 * service's ip_families allow, of the family of the request if possible; else the workload's hostname.
 */
export function chooseAddress(workload: Workload, service: Service | undefined, requestedIp: string): AddressChoice {
  if (workload.addresses.includes(requestedIp)) return { kind: "ip", ip: requestedIp };
  const families = service?.ipFamilies;
  const allowed = workload.addresses.filter((ip) => isAllowed(ip, families));
  const v6 = isIpv6(requestedIp);
  const ip = allowed.find((candidate) => isIpv6(candidate) === v6) ?? allowed[0];
  if (ip !== undefined) return { kind: "ip", ip };
  if (workload.hostname === "" || workload.addresses.length > 0) return { kind: "none" };
  const family = families === "IPv4" || families === "IPv6" ? families : "any";
  return { kind: "hostname", hostname: workload.hostname, family, preferred: v6 ? "IPv6" : "IPv4" };
}

function isAllowed(ip: string, families: Service["ipFamilies"]): boolean {
  if (families === "IPv4") return !isIpv6(ip);
  if (families === "IPv6") return isIpv6(ip);
  return true;
}
