import v8 from "node:v8";

/** ztunnel: `node main.ts proxy ztunnel`. Everything else comes from the environment (spec: l4-ztunnel §10). */

// A nursery that grows with what the libraries allocate while they load stays that large for good: about 10 MB for
// nothing. Hence nothing is imported before this.
v8.setFlagsFromString("--semi-space-growth-factor=1");

const [{ messageOf }, { readConfig }, { startZtunnel }] = await Promise.all([
  import("@tulle/base"),
  import("./config.ts"),
  import("./wire.ts"),
]);

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
