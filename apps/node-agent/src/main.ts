import { messageOf } from "@tulle/base";
import { readConfig } from "./config.ts";
import { ProcessLog } from "./log.ts";
import { startNodeAgent } from "./wire.ts";

/** The node agent: `node main.ts`. Everything comes from the environment (config.ts). */

try {
  const config = readConfig(process.env);
  const log = new ProcessLog({ level: config.logLevel, format: config.logFormat });
  process.on("exit", () => log.closeSync());
  process.on("uncaughtException", (error) => {
    log.error("cannot go on", { error: error.stack ?? error.message });
    process.exit(1);
  });
  const ending = Promise.withResolvers<void>();
  process.once("SIGTERM", () => ending.resolve());
  process.once("SIGINT", () => ending.resolve());
  const starting = startNodeAgent({ config, env: process.env, log });
  // A signal during the start ends it: nothing has been changed that the next agent would not find.
  const agent = await Promise.race([starting, ending.promise]);
  if (agent !== undefined) {
    await ending.promise;
    await agent.terminate();
  }
  process.exit(0);
} catch (error) {
  console.error(`node agent: ${messageOf(error)}`);
  process.exit(1);
}
