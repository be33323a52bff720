import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openPluginFiles } from "../apps/node-agent/src/installer/plugin-files.ts";
import { baseEntries, baseInputs } from "../images/base-layer.ts";
import { pluginEntries } from "../images/cni-plugin.ts";

/**
 * How long a new pod waits for the CNI plugin: `node bench/cni-plugin.ts [CALLS]` installs it as the node agent does, with
 * the image's Node, calls it one after the other, and prints the time from the start of the process to the request's
 * arrival at the agent, and to the plugin's end.
 */

const CALLS = Number(process.argv[2] ?? 50);
const ROOT = join(import.meta.dirname, "..");
const CALL_TIMEOUT_MS = 30_000;
/** A first call reads 120 MB from the disk; the ones after it do not. */
const WARM_UP = 3;

const folder = mkdtempSync(join(tmpdir(), "tulle-bench-cni-"));
try {
  await measure();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function measure(): Promise<void> {
  const plugin = await install();
  const socket = join(folder, "pluginevent.sock");
  let arrived = 0;
  const agent = createServer((request, response) => {
    arrived = performance.now();
    request.resume().on("end", () => response.end());
  });
  await new Promise<void>((resolve) => agent.listen(socket, resolve));
  const config = JSON.stringify({
    cniVersion: "1.0.0",
    cni_agent_run_dir: folder,
    prevResult: { ips: [{ address: "10.244.1.5/24" }] },
  });

  const arrivals: number[] = [];
  const ends: number[] = [];
  for (let i = -WARM_UP; i < CALLS; i++) {
    arrived = 0;
    const start = performance.now();
    await call(plugin, config);
    if (arrived === 0) throw new Error("the plugin did not ask the agent");
    if (i < 0) continue;
    arrivals.push(arrived - start);
    ends.push(performance.now() - start);
  }
  agent.close();
  console.log(`request at the agent after: ${summary(arrivals)}`);
  console.log(`plugin ended after:         ${summary(ends)}`);
}

/** The image's files in a folder, and from there to where a runtime would look. */
async function install(): Promise<string> {
  const image = join(folder, "image");
  const inputs = baseInputs(ROOT);
  const files = [...baseEntries(inputs), ...pluginEntries(ROOT, [...inputs.libraries.keys()], "bench")];
  for (const entry of files) {
    if (entry.kind !== "file") continue;
    mkdirSync(join(image, entry.path, ".."), { recursive: true });
    const seenFromHere = (text: string) => text.replaceAll('"/usr/', `"${image}/usr/`);
    const data = entry.path.endsWith("runtime.json") ? seenFromHere(Buffer.from(entry.data).toString()) : entry.data;
    writeFileSync(join(image, entry.path), data, { mode: entry.mode ?? 0o644 });
  }
  const binDir = join(folder, "bin");
  mkdirSync(binDir);
  await openPluginFiles({ binDir, hostBinDir: binDir, pluginFolder: join(image, "app/cni") }).install();
  return join(binDir, "istio-cni");
}

function call(plugin: string, config: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const environment = {
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: "bench",
      CNI_NETNS: "/var/run/netns/bench",
      CNI_ARGS: "K8S_POD_NAME=bench;K8S_POD_NAMESPACE=bench",
    };
    const child = spawn(plugin, { env: environment, stdio: ["pipe", "pipe", "inherit"], timeout: CALL_TIMEOUT_MS });
    let output = "";
    child.stdout.on("data", (chunk) => (output += String(chunk)));
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`the plugin ended with ${code}: ${output}`)),
    );
    child.stdin.end(config);
  });
}

function summary(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0).toFixed(1);
  return `median ${at(0.5)} ms, p90 ${at(0.9)} ms, best ${at(0)} ms, of ${sorted.length} calls`;
}
