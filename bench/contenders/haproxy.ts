import { join } from "node:path";
import type { LabProcess } from "@tulle/lab";
import type { Contender, Side } from "../contender.ts";
import { captureBothSides, markTunnels } from "./capture.ts";

const CONFIGURATIONS = join(import.meta.dirname, "../haproxy");

/** HAProxy on both sides, mutual TLS 1.3 between them. */
export const haproxy: Contender = pair("haproxy", "HAProxy pair (mTLS)", "outbound.cfg", "inbound.cfg");

/** HAProxy on both sides, plain TCP between them. */
export const relay: Contender = pair("relay", "plain TCP relay", "relay-outbound.cfg", "relay-inbound.cfg");

function pair(name: string, title: string, outbound: string, inbound: string): Contender {
  return {
    name,
    title,
    async start(place) {
      await captureBothSides(place);
      await markTunnels(place.client.namespace);
      const processes = [await start(place.client, outbound), await start(place.server, inbound)];
      return {
        pids: processes.map(({ pid }) => pid),
        stop: async () => {
          await Promise.all(processes.map((process) => process.stop()));
        },
      };
    },
  };
}

function start({ namespace, certificates }: Side, configuration: string): Promise<LabProcess> {
  // -db: one process in the foreground.
  return namespace.start("haproxy", ["-db", "-q", "-f", join(CONFIGURATIONS, configuration)], {
    environment: { CERTIFICATES: certificates },
  });
}
