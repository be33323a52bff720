import { messageOf } from "@tulle/base";
import { readConfig } from "./config.ts";
import { startZtunnel } from "./wire.ts";

/** ztunnel: `node main.ts proxy ztunnel`. Everything else comes from the environment (spec: l4-ztunnel §10). */

try {
  const ztunnel = await startZtunnel(await readConfig());
  let interrupts = 0;
  process.on("SIGTERM", () => void ztunnel.drain());
  process.on("SIGINT", () => {
    interrupts++;
    // A second Ctrl-C does not wait for connections.
    if (interrupts > 1) process.exit(0);
    void ztunnel.drain();
  });
  process.exit(await ztunnel.ended);
} catch (error) {
  console.error(`ztunnel: ${messageOf(error)}`);
  process.exit(1);
}
