import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./report.ts";

/**
 * How long `tulle` takes to start and answer: `node bench/cli.ts [STARTS]`, each start a process of its own, medians of wall
 * time; with an empty Node beside it. Cold: without a compile cache. Warm: as from a user's second start on.
 */

const STARTS = Number(process.argv[2] ?? 20);
const AIM_MS = 150;
const TIMEOUT_MS = 60_000;
const MAIN = join(import.meta.dirname, "../apps/cli/src/main.ts");

interface Contender {
  readonly name: string;
  readonly args: readonly string[];
  readonly aim: boolean;
  readonly cold: number[];
  readonly warm: number[];
}

const folder = mkdtempSync(join(tmpdir(), "tulle-bench-cli-"));
try {
  measure();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function measure(): void {
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const dump = write("dump.json", JSON.stringify({ workloads: [], services: [], policies: [] }));
  mkdirSync(join(folder, "caches"), { mode: 0o700 });
  const contenders = [
    contender("empty script, JavaScript", [write("empty.mjs", "")], false),
    contender("empty script, TypeScript", [write("empty.ts", "")], false),
    contender("tulle --help", [MAIN, "--help"], true),
    contender("tulle version --no-remote", [MAIN, "version", "--no-remote"], true),
    contender("tulle ztunnel-config policy -f dump.json", [MAIN, "ztunnel-config", "policy", "-f", dump], true),
  ];
  // The first ones fill the caches, of Node and of the system.
  for (let i = -2; i < STARTS; i++) {
    for (const { args, cold, warm } of contenders) {
      const [without, with_] = [start(args, { NODE_DISABLE_COMPILE_CACHE: "1" }), start(args, {})];
      if (i < 0) continue;
      cold.push(without);
      warm.push(with_);
    }
  }
  console.log(`|  | cold | warm | aim |\n| --- | --: | --: | --: |`);
  for (const { name, cold, warm, aim } of contenders) {
    const [first, next] = [median(cold) ?? Number.NaN, median(warm) ?? Number.NaN];
    const reached = aim ? `< ${AIM_MS} ms ${next < AIM_MS ? "✓" : "✗"}` : "";
    console.log(`| ${name} | ${first.toFixed(0)} ms | ${next.toFixed(0)} ms | ${reached} |`);
  }
  console.log(`\n${STARTS} starts each, medians.`);
}

function contender(name: string, args: readonly string[], aim: boolean): Contender {
  return { name, args, aim, cold: [], warm: [] };
}

/** Milliseconds from the start of the process to its end. */
function start(args: readonly string[], env: Readonly<Record<string, string>>): number {
  const { PATH = "" } = process.env;
  const began = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
    env: { PATH, HOME: folder, XDG_CACHE_HOME: join(folder, "caches"), NODE_NO_WARNINGS: "1", ...env },
  });
  const took = performance.now() - began;
  if (status !== 0) throw new Error(`${args.join(" ")} failed: ${stderr}`);
  return took;
}
