import assert from "node:assert/strict";
import { test } from "node:test";
import { runScenario } from "./scenario.ts";
import { simulationContext } from "./tls.ts";
import { workloadOf } from "./world.ts";

/** How many seeds every run of the tests tries; `npm run sim -- --seeds N` tries more. */
const SEEDS = 500;
const REPEATED_SEEDS = 25;

test(`${SEEDS} seeds: no byte lost, changed or in the clear, nothing hangs, nothing leaks`, () => {
  let ended = 0;
  let bytes = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = runScenario(seed, simulationContext(seed));
    assert.deepEqual(result.violations, [], `seed ${seed}; replay: npm run sim -- --seed ${seed}`);
    ended += result.ended;
    bytes += result.bytes;
  }
  // The scenarios must be doing something, or the invariants would hold for nothing.
  assert.ok(ended > SEEDS, `${ended} connections came to an orderly end`);
  assert.ok(bytes > 10_000_000, `${bytes} bytes arrived`);
});

test("a seed run twice gives the same hash of every byte and event", () => {
  const digests = new Set<string>();
  for (let seed = 1; seed <= REPEATED_SEEDS; seed++) {
    const first = runScenario(seed, simulationContext(seed));
    const second = runScenario(seed, simulationContext(seed));
    assert.equal(second.digest, first.digest, `seed ${seed}; replay: npm run sim -- --seed ${seed}`);
    digests.add(first.digest);
  }
  assert.equal(digests.size, REPEATED_SEEDS, "different seeds give different runs");
});

test("plaintext between two enrolled pods is seen", () => {
  const seen = [1, 2, 3, 4, 5, 6].some((seed) => {
    const { violations } = runScenario(seed, simulationContext(seed), (world) => {
      const pod = world.pods.get("two")?.pod;
      // The control plane says that an enrolled pod does not speak HBONE.
      if (pod !== undefined) world.apply([{ kind: "workload", workload: workloadOf(pod, { protocol: "TCP" }) }]);
    });
    return violations.some((violation) => violation.startsWith("plaintext from client to two"));
  });
  assert.ok(seen);
});

test("bytes that are changed on the way are seen", () => {
  const seen = [1, 2, 3, 4, 5, 6].some((seed) => {
    const { violations } = runScenario(seed, simulationContext(seed), (world) => {
      let countdown = 40;
      const watch = world.network.onSegment;
      world.network.onSegment = (from, to, bytes) => {
        watch?.(from, to, bytes);
        // Inside a pod, between the application and its proxy, nothing else would notice.
        if (from === to && bytes.length > 30 && countdown-- === 0) bytes[25] = (bytes[25] ?? 0) ^ 1;
      };
    });
    return violations.some((violation) => violation.includes("wrong bytes"));
  });
  assert.ok(seen);
});
