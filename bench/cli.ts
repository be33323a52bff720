import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./report.ts";

/**
 * How long `tulle` takes to start and answer: `node bench/cli.ts [STARTS]`, each start a process of its own, medians of wall
 * time and, in brackets, of processor time; with an empty Node beside it. Cold: without a compile cache. Warm: as from a user's second start on. scripts/with-node:
 * NODE_COMPILE_CACHE is set before Node starts, so that the first file needs no type stripping either.
 */

const STARTS = Number(process.argv[2] ?? 20);
const AIM_MS = 150;
const TIMEOUT_MS = 60_000;
const WAYS = ["cold", "warm", "scripts/with-node"] as const;
const MAIN = join(import.meta.dirname, "../apps/cli/src/main.js");

/** Of one start, in milliseconds. */
interface Times {
  readonly wall: number;
  /** User and system. */
  readonly cpu: number;
}

interface Contender {
  readonly name: string;
  readonly args: readonly string[];
  readonly aim: boolean;
  readonly times: Readonly<Record<(typeof WAYS)[number], Times[]>>;
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
  const environments = {
    cold: { NODE_DISABLE_COMPILE_CACHE: "1" },
    warm: {},
    "scripts/with-node": { NODE_COMPILE_CACHE: join(folder, "compile") },
  };
  const contenders = [
    contender("empty script, JavaScript", [write("empty.mjs", "")], false),
    contender("empty script, TypeScript", [write("empty.ts", "")], false),
    contender("tulle --help", [MAIN, "--help"], true),
    contender("tulle version --no-remote", [MAIN, "version", "--no-remote"], true),
    contender("tulle ztunnel-config policy -f dump.json", [MAIN, "ztunnel-config", "policy", "-f", dump], true),
  ];
  // The first ones fill the caches, of Node and of the system.
  for (let i = -2; i < STARTS; i++) {
    for (const { args, times } of contenders) {
      for (const way of WAYS) {
        const took = start(args, environments[way]);
        if (i >= 0) times[way].push(took);
      }
    }
  }
  console.log(`| aim: < ${AIM_MS} ms | ${WAYS.join(" | ")} |\n| --- | ${WAYS.map(() => "--:").join(" | ")} |`);
  for (const { name, times, aim } of contenders) {
    const medians = WAYS.map((way) => ({
      wall: median(times[way].map(({ wall }) => wall)) ?? Number.NaN,
      cpu: median(times[way].map(({ cpu }) => cpu)) ?? Number.NaN,
    }));
    const mark = (ms: number) => (aim ? (ms < AIM_MS ? " ✓" : " ✗") : "");
    const cells = medians.map(({ wall, cpu }) => `${wall.toFixed(0)} ms (${cpu.toFixed(0)})${mark(wall)}`);
    console.log(`| ${name} | ${cells.join(" | ")} |`);
  }
  console.log(`\n${STARTS} starts each, medians.`);
}

function contender(name: string, args: readonly string[], aim: boolean): Contender {
  return { name, args, aim, times: { cold: [], warm: [], "scripts/with-node": [] } };
}

/** Measured by bash: Node does not tell what its children have used. */
function start(args: readonly string[], env: Readonly<Record<string, string>>): Times {
  const { PATH = "" } = process.env;
  const script = `TIMEFORMAT='%3R %3U %3S'; time "$@" >/dev/null`;
  const { status, stderr } = spawnSync("bash", ["-c", script, "bash", process.execPath, ...args], {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
    env: {
      ...{ PATH, HOME: folder, XDG_CACHE_HOME: join(folder, "caches"), NODE_NO_WARNINGS: "1", LC_ALL: "C" },
      ...env,
    },
  });
  const [, real, user, system] = /^(\d+\.\d+) (\d+\.\d+) (\d+\.\d+)\n$/.exec(stderr) ?? [];
  if (status !== 0 || real === undefined) throw new Error(`${args.join(" ")} failed: ${stderr}`);
  return { wall: Number(real) * 1000, cpu: (Number(user) + Number(system)) * 1000 };
}
