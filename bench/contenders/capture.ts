import { applyPodRules } from "@tulle/linux";
import type { LabNamespace } from "@tulle/lab";
import type { Place } from "../contender.ts";

/** The rules of an enrolled pod on both sides, the same for every contender. */
export async function captureBothSides({ client, server }: Place): Promise<void> {
  for (const { namespace } of [client, server]) await applyPodRules(namespace.path, { dnsCapture: false });
}

/**
 * Marks the opening packets of connections to the other side's 15008 as a proxy's own. For proxies that cannot set a mark;
 * only the first packet of a connection is touched, so it costs nothing that a figure shows.
 */
export async function markTunnels(namespace: LabNamespace): Promise<void> {
  await namespace.run("nft", ["-f", "-"], {
    input: `table inet bench {
  chain output {
    type filter hook output priority -151; policy accept;
    tcp dport 15008 ct state new meta mark set 0x539
  }
}
`,
  });
}
