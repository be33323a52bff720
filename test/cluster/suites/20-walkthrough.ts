import { before, describe, test } from "node:test";
import { Mesh, type TestCluster } from "../src/index.ts";

/** What every user of an ambient mesh does first. */
export function suite(cluster: () => TestCluster): void {
  describe("the walk-through", () => {
    before(async () => {
      await new Mesh(cluster()).install();
    });

    test("installs", async () => {
      console.log(await new Mesh(cluster()).tulle(["status"]));
    });
  });
}
