import { join } from "node:path";
import type { LabProcess } from "@tulle/lab";
import type { Contender, Side } from "../contender.ts";
import { captureBothSides, markTunnels } from "./capture.ts";

const CONFIGURATIONS = join(import.meta.dirname, "../haproxy");

/** HAProxy on both sides, mutual TLS 1.3 between them. */
export const haproxy: Contender = pair({
  name: "haproxy",
  title: "HAProxy pair (mTLS)",
  wire: "encrypted tunnel",
  outbound: "outbound.cfg",
  inbound: "inbound.cfg",
});

/** HAProxy on both sides, plain TCP between them. */
export const relay: Contender = pair({
  name: "relay",
  title: "plain TCP relay",
  wire: "tunnel",
  outbound: "relay-outbound.cfg",
  inbound: "relay-inbound.cfg",
});

function pair(options: Omit<Contender, "start"> & { readonly outbound: string; readonly inbound: string }): Contender {
  const { name, title, wire, outbound, inbound } = options;
  return {
    name,
    title,
    wire,
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
