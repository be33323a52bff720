/**
 * `npm run bench -- [--quick] [--only direct,haproxy] [--measures requests-1,opening] [--rounds N] [--seconds N] [--json FILE]`
 *
 * All contenders stand side by side, each in two namespaces of its own; every load runs against each of them in turn, in
 * several rounds, and the table shows medians. Needs root.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { messageOf } from "@tulle/base";
import { Lab } from "@tulle/lab";
import { CertificateAuthority } from "@tulle/pki";
import { AIMS } from "./aims.ts";
import type { Contender } from "./contender.ts";
import { direct } from "./contenders/direct.ts";
import { haproxy, relay } from "./contenders/haproxy.ts";
import { tulle } from "./contenders/tulle.ts";
import { FIGURES, MEASURES, type Measure, type Sample } from "./measures.ts";
import { residentMegabytes } from "./process-usage.ts";
import { formatNumber, formatReport, median, type Result } from "./report.ts";
import { buildStage, type Stage } from "./stage.ts";

interface Plan {
  readonly contenders: readonly Contender[];
  readonly measures: readonly Measure[];
  readonly rounds: number;
  readonly seconds: number;
  readonly json: string | undefined;
}

const CONTENDERS: readonly Contender[] = [direct, relay, haproxy, tulle];
const FULL = { rounds: 5, seconds: 4 };
const QUICK = { rounds: 1, seconds: 1 };
/** Until a process that has just started has done what it does at the start. */
const SETTLE_MS = 1000;

/** What is collected of one contender. */
interface Entry {
  readonly contender: Contender;
  readonly samples: Sample[];
  stage?: Stage;
  failure?: string;
}

if (process.getuid?.() !== 0) {
  console.error("the bench makes network namespaces: run it as root");
  process.exit(1);
}
const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort());
process.exitCode = await bench(readPlan(process.argv.slice(2)), stop.signal);

/** What has been measured when the signal aborts is still reported. */
async function bench(plan: Plan, signal: AbortSignal): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "tulle-bench-"));
  await using lab = await Lab.create({ ipv6: false });
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));

  const authority = await CertificateAuthority.selfSigned();
  const entries: Entry[] = plan.contenders.map((contender) => ({ contender, samples: [] }));
  for (const entry of entries) {
    try {
      const { stage, close } = await buildStage(lab, entry.contender, authority, folder);
      entry.stage = stage;
      undo.defer(close);
    } catch (error) {
      entry.failure = `did not start: ${messageOf(error)}`;
      console.error(`${entry.contender.title} ${entry.failure}`);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  for (const entry of entries) entry.samples.push(memory(entry, "memory-idle"));
  for (let round = 1; round <= plan.rounds; round++) {
    for (const measure of plan.measures) {
      for (const entry of rotated(entries, round)) {
        if (entry.stage === undefined || signal.aborted) continue;
        progress(`round ${round} of ${plan.rounds}: ${measure.name}, ${entry.contender.name}`);
        try {
          entry.samples.push(await measure.run(entry.stage, plan.seconds));
        } catch (error) {
          // The interrupt has reached the load generator as well.
          if (signal.aborted) continue;
          entry.failure = `${measure.name}, round ${round}: ${messageOf(error)}`;
          console.error(`${entry.contender.title}: ${entry.failure}`);
        }
      }
    }
  }
  for (const entry of entries) entry.samples.push(memory(entry, "memory-loaded"));
  progress("");

  const results = entries.map(
    ({ contender, samples, failure }): Result => ({ name: contender.name, title: contender.title, samples, failure }),
  );
  console.log(formatReport(results, FIGURES, AIMS));
  console.log(
    `\nAn empty Node beside it: ${formatNumber(await emptyNode())} MB. ${plan.rounds} rounds of ${plan.seconds} s${signal.aborted ? ", interrupted" : ""}, medians.`,
  );
  if (plan.json !== undefined) writeFileSync(plan.json, `${JSON.stringify(results, undefined, 2)}\n`);
  return results.some(({ failure }) => failure !== undefined) ? 1 : 0;
}

function readPlan(args: readonly string[]): Plan {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string" },
      measures: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      json: { type: "string" },
    },
  });
  const { rounds, seconds } = values.quick ? QUICK : FULL;
  return {
    contenders: chosen("--only", values.only, CONTENDERS),
    measures: chosen("--measures", values.measures, MEASURES),
    rounds: count("--rounds", values.rounds, rounds),
    seconds: count("--seconds", values.seconds, seconds),
    json: values.json,
  };
}

/** Those that a comma-separated list names, or all. Throws when it names none that there is. */
function chosen<T extends { readonly name: string }>(
  option: string,
  list: string | undefined,
  all: readonly T[],
): readonly T[] {
  if (list === undefined) return all;
  const known = all.map(({ name }) => name);
  const unknown = list.split(",").filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`${option}: unknown ${unknown.join(", ")}; there are ${known.join(", ")}`);
  return all.filter(({ name }) => list.split(",").includes(name));
}

function count(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 1000)
    throw new Error(`${name} takes a number from 1 to 1000, not ${text}`);
  return value;
}

/** The mean of both proxies: they do not do the same. */
function memory({ stage, contender }: Entry, key: string): Sample {
  const pids = stage?.running.pids ?? [];
  if (pids.length === 0) return {};
  try {
    return { [key]: pids.map(residentMegabytes).reduce((sum, one) => sum + one, 0) / pids.length };
  } catch (error) {
    console.error(`${contender.title}: ${messageOf(error)}`);
    return {};
  }
}

/** Each round begins with another one, so that none is always the first after the others' noise. */
function rotated<T>(list: readonly T[], by: number): T[] {
  return list.map((_, index) => list[(index + by) % list.length] as T);
}

async function emptyNode(): Promise<number | undefined> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const megabytes = median([residentMegabytes(child.pid ?? 0)]);
  child.kill("SIGKILL");
  return megabytes;
}

/** One line that is written over, where there is a terminal. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}
