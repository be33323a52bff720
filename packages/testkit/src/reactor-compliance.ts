import type { ComplianceWorld } from "./reactor-compliance/harness.ts";
import { testDatagrams } from "./reactor-compliance/datagrams.ts";
import { testEndings } from "./reactor-compliance/endings.ts";
import { testFaults } from "./reactor-compliance/faults.ts";
import { testListeners } from "./reactor-compliance/listeners.ts";
import { testReading } from "./reactor-compliance/reading.ts";
import { testStreams } from "./reactor-compliance/streams.ts";
import { testTime } from "./reactor-compliance/time.ts";

export type { ComplianceWorld } from "./reactor-compliance/harness.ts";
export { createTestNamespace, NOWHERE_V4, type TestNamespace } from "./reactor-compliance/test-namespace.ts";

/**
 * Registers with node:test what every `Reactor` must do (contract.ts of @tulle/reactor), kernel's unpleasant cases
 * included. `create` makes a fresh world for each test; the suite closes it and checks that nothing is left open.
 */
export function reactorCompliance(name: string, create: () => ComplianceWorld): void {
  testStreams(name, create);
  testReading(name, create);
  testEndings(name, create);
  testListeners(name, create);
  testFaults(name, create);
  testTime(name, create);
  testDatagrams(name, create);
}
