import { existsSync, readFileSync } from "node:fs";
import { cidrContains, isIpv6, parseCidr } from "@tulle/base";
import { run } from "@tulle/lab";
import { type AddressPlan, addressPlan } from "./objects/addresses.ts";

/** First and last second octet of the 10.x.0.0/16 ranges that are tried; away from what clusters and routers like to use. */
const FIRST_RANGE = 201;
const LAST_RANGE = 249;

/** The first range that no route of this machine touches. Rejects when all are taken. */
export async function chooseRange(): Promise<AddressPlan> {
  const routes = JSON.parse(await run("ip", ["-json", "route", "show", "table", "all"])) as { readonly dst: string }[];
  const taken = routes.map(({ dst }) => dst).filter((dst) => dst !== "default" && !isIpv6(dst));
  for (let second = FIRST_RANGE; second <= LAST_RANGE; second++) {
    if (!taken.some((dst) => touches(dst, second))) return addressPlan(second, hasIpv6());
  }
  throw new Error(`every range from 10.${FIRST_RANGE}.0.0/16 to 10.${LAST_RANGE}.0.0/16 is in use on this machine`);
}

/** Whether a route's destination and 10.<second>.0.0/16 have an address in common. */
export function touches(destination: string, second: number): boolean {
  const route = parseCidr(destination);
  const range = parseCidr(`10.${second}.0.0/16`);
  if (route === undefined || range === undefined) return false;
  return cidrContains(range, route.ip) || (route.bits > 0 && cidrContains(route, range.ip));
}

function hasIpv6(): boolean {
  const path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
  return existsSync(path) && readFileSync(path, "utf8").trim() === "0";
}
