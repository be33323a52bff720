import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { cidrContains, isIpv6, parseCidr } from "@tulle/base";
import { run } from "@tulle/lab";
import { type AddressPlan, addressPlan } from "./objects/addresses.ts";

/** First and last second octet of the 10.x.0.0/16 ranges that are tried; away from what clusters and routers like to use. */
const FIRST_RANGE = 201;
const LAST_RANGE = 249;

export interface ReservedRange {
  /** Second octet of 10.x.0.0/16. */
  readonly second: number;
  readonly plan: AddressPlan;
  /** Lets another mesh have it; the end of this process does, too. */
  readonly release: () => void;
}

/**
 * Reserves a range that no route and no other mesh of this machine touches: `preferred` (the second octet of one that was
 * used before), else the first. Rejects when all are taken.
 */
export async function reserveRange(preferred?: number): Promise<ReservedRange> {
  const all = Array.from({ length: LAST_RANGE - FIRST_RANGE + 1 }, (_, index) => FIRST_RANGE + index);
  for (const second of preferred === undefined ? all : [preferred, ...all]) {
    const lock = await lockRange(second);
    if (lock === undefined) continue;
    // Looked at under the lock: a mesh that has just started shows either as a lock or as a route.
    const routes = JSON.parse(await run("ip", ["-json", "route", "show", "table", "all"])) as {
      readonly dst: string;
    }[];
    const taken = routes.some(({ dst }) => dst !== "default" && !isIpv6(dst) && touches(dst, second));
    if (!taken) return { second, plan: addressPlan(second, hasIpv6()), release: () => lock.close() };
    lock.close();
  }
  throw new Error(`every range from 10.${FIRST_RANGE}.0.0/16 to 10.${LAST_RANGE}.0.0/16 is in use on this machine`);
}

/** An abstract Unix socket (unix(7)): one process can have it, and the kernel takes it back when that process ends. */
function lockRange(second: number): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(`\0tulle/10.${second}.0.0/16`, () => resolve(server));
  });
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
