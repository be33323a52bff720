import { after, before, describe } from "node:test";
import { Applications } from "../acceptance/applications.ts";
import { lifeTests } from "../acceptance/life.ts";
import { loadBalancingTests } from "../acceptance/load-balancing.ts";
import { nameTests } from "../acceptance/names.ts";
import { policyTests } from "../acceptance/policies.ts";
import { serviceEntryTests } from "../acceptance/service-entries.ts";
import { telemetryTests } from "../acceptance/telemetry.ts";
import { trafficTests } from "../acceptance/traffic.ts";
import { visibilityTests } from "../acceptance/visibility.ts";
import { waypointTests } from "../acceptance/waypoints.ts";
import { ztunnelConfigTests } from "../acceptance/ztunnel-config.ts";
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
    loadBalancingTests(apps);
    nameTests(apps);
    serviceEntryTests(apps);
    visibilityTests(apps);
    waypointTests(apps);
    policyTests(apps);
    telemetryTests(apps);
    ztunnelConfigTests(apps);
    lifeTests(apps);
  });
}
