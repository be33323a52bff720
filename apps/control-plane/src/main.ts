import { existsSync } from "node:fs";
import { messageOf } from "@tulle/base";
import { openStore } from "@tulle/store";
import { readConfig } from "./config.ts";
import { createLog } from "./log.ts";
import { startControlPlane } from "./wire.ts";

/** The control plane: `node main.ts`. Everything comes from the environment (config.ts). */

try {
  const config = readConfig(process.env, { ipv6: existsSync("/proc/net/if_inet6") });
  const output = createLog({ format: config.logFormat, filter: config.logFilter });
  process.on("exit", () => output.closeSync());
  const { log } = output;
  const store = await openStore({
    component: "tulle-control-plane",
    instance: config.podName,
    env: process.env,
    log: log.scope("store"),
  });
  const controlPlane = await startControlPlane(config, { store, log });
  let interrupts = 0;
  process.on("SIGTERM", () => void controlPlane.drain());
  process.on("SIGINT", () => {
    interrupts++;
    // A second Ctrl-C does not wait for anybody.
    if (interrupts > 1) process.exit(0);
    void controlPlane.drain();
  });
  await controlPlane.ended;
  process.exit(0);
} catch (error) {
  console.error(`control plane: ${messageOf(error)}`);
  process.exit(1);
}
