import { after, before, describe } from "node:test";
import { Applications } from "../acceptance/applications.ts";
import { lifeTests } from "../acceptance/life.ts";
import { nameTests } from "../acceptance/names.ts";
import { policyTests } from "../acceptance/policies.ts";
import { telemetryTests } from "../acceptance/telemetry.ts";
import { trafficTests } from "../acceptance/traffic.ts";
import type { TestCluster } from "../src/index.ts";

/** What an ambient mesh must do on layer 4, on one set of applications. */
export function suite(cluster: () => TestCluster): void {
  describe("layer 4 acceptance", () => {
    let applications: Applications;
    const apps = () => applications;

    before(async () => {
      applications = new Applications(cluster());
      await applications.up();
    });

    after(async () => {
      await applications.down();
    });

    trafficTests(apps);
    nameTests(apps);
    policyTests(apps);
    telemetryTests(apps);
    lifeTests(apps);
  });
}
