import { parseArgs } from "node:util";
import { simulationContext } from "./tls.ts";
import { runScenario } from "./scenario.ts";

/** `npm run sim -- --seeds N [--from S]`, or `--seed S` to replay one seed twice and compare the hashes. */

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "500" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
  },
});
const first = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
if (!Number.isInteger(first) || !Number.isInteger(count) || count < 1) {
  console.error("usage: npm run sim -- [--seeds N] [--from S] | --seed S");
  process.exit(2);
}

let failed = 0;
let connections = 0;
let ended = 0;
let bytes = 0;
const startedAt = performance.now();
for (let seed = first; seed < first + count; seed++) {
  const result = runScenario(seed, simulationContext(seed));
  connections += result.connections;
  ended += result.ended;
  bytes += result.bytes;
  const verbose = values.seed !== undefined;
  if (verbose) {
    const again = runScenario(seed, simulationContext(seed));
    console.log(`seed ${seed}: ${result.connections} connections, ${result.events} events, digest ${result.digest}`);
    console.log(again.digest === result.digest ? "second run: same digest" : `second run: ${again.digest}, DIFFERENT`);
    if (again.digest !== result.digest) failed++;
  }
  if (result.violations.length === 0) continue;
  failed++;
  console.error(`seed ${seed} failed; replay: npm run sim -- --seed ${seed}`);
  for (const violation of result.violations) console.error(`  ${violation}`);
}
const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
console.log(`${connections} connections, ${ended} of them to an orderly end, ${bytes} bytes`);
console.log(`${count} seed(s) from ${first} in ${seconds} s, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
