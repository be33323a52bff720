import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { type App, hosts, NAMESPACE } from "./scene.ts";

/** All that are in the mesh: on both nodes, of both namespaces, with several pods and with one. */
const IN_MESH: readonly App[] = ["client", "captured", "stranger", "local", "visitor"];
/** A client may have remembered for twenty seconds that there is no such name; the rest is for a busy machine. */
const DNS_LIMIT = { timeoutMs: 60_000, intervalMs: 100 };
/** What the test cluster's DNS says of names that are not its own, as it has nobody to ask. */
export const NO_HOST = /no such host|server misbehaving/;
/** Tests at a time, each with ten questions at a time. */
const CONCURRENCY = 3;
const NAMED = "by name";
const BY_ADDRESS = "by address";

/** How an entry has its one endpoint, a pod out of the mesh. */
interface Case {
  readonly name: string;
  readonly location: "MESH_INTERNAL" | "MESH_EXTERNAL";
  readonly resolution: "STATIC" | "DNS";
  readonly endpoint: typeof NAMED | typeof BY_ADDRESS;
  /** In a WorkloadEntry that is selected by its labels, else in the ServiceEntry. */
  readonly selected: boolean;
}

const CASES: readonly Case[] = (["MESH_INTERNAL", "MESH_EXTERNAL"] as const).flatMap((location) => {
  const suffix = location === "MESH_INTERNAL" ? "in" : "ex";
  return [
    { name: `written-${suffix}`, location, resolution: "STATIC", endpoint: BY_ADDRESS, selected: false },
    { name: `selected-${suffix}`, location, resolution: "STATIC", endpoint: BY_ADDRESS, selected: true },
    { name: `looked-up-${suffix}`, location, resolution: "DNS", endpoint: NAMED, selected: true },
    { name: `address-${suffix}`, location, resolution: "DNS", endpoint: BY_ADDRESS, selected: true },
  ] as const;
});

/** Hosts that ServiceEntries describe, as each app sees them. */
export function serviceEntryTests(apps: () => Applications): void {
  const outside = () => hosts(apps().pod("uncaptured"))[0] ?? assert.fail();

  // The first waits for what never answers; all only look.
  describe("ServiceEntries from every app", { concurrency: CONCURRENCY }, () => {
    const made: object[] = [];

    before(async () => {
      made.push(...CASES.flatMap((one, index) => objects(one, index, outside(), apps().namedEndpoint)));
      await apps().apply(...made);
    });
    after(() => apps().delete(...made));

    test("leave those who are not in the mesh alone: no host, no address of one, and the way to the endpoint as ever", async () => {
      const addresses = CASES.map((_, index) => `${addressOf(index)}:80`);
      const reached = await Promise.all(addresses.map((address) => apps().reaches("uncaptured", address)));
      assert.deepEqual(new Set(reached), new Set([false]));
      for (const app of ["uncaptured", "client"] as const) {
        await apps().get(app, `http://${outside()}:${ECHO_PORTS.http}/`);
      }
    });

    for (const [index, { name, location, resolution, endpoint, selected }] of CASES.entries()) {
      const where = selected ? "a WorkloadEntry that it selects" : "it";
      test(`${location}, ${resolution}: the endpoint ${endpoint} in ${where} is reached by all of the mesh, and by no other`, async () => {
        const urls = [`http://${hostOf(name)}/`, `http://${addressOf(index)}/`];
        await Promise.all(
          IN_MESH.flatMap((app) =>
            urls.map((url) =>
              until(async () => (await apps().ask(app, url)).pod === apps().pod("uncaptured").metadata.name, {
                what: `${app} to reach ${url}`,
                ...DNS_LIMIT,
              }),
            ),
          ),
        );
        await assert.rejects(apps().lookUp("uncaptured", hostOf(name)), NO_HOST);
      });
    }
  });
}

function hostOf(name: string): string {
  return `${name}.entries.example.com`;
}

/** Of the addresses for documentation (RFC 5737), which nobody has. */
function addressOf(index: number): string {
  return `198.51.100.${index + 1}`;
}

function objects(one: Case, index: number, ip: string, named: string): object[] {
  const { name, location, resolution, endpoint, selected } = one;
  const metadata = { name, namespace: NAMESPACE };
  const address = endpoint === NAMED ? named : ip;
  const labels = { entry: name };
  const spec = {
    hosts: [hostOf(name)],
    addresses: [addressOf(index)],
    ports: [{ number: 80, name: "http", protocol: "HTTP", targetPort: ECHO_PORTS.http }],
    location,
    resolution,
    ...(selected ? { workloadSelector: { labels } } : { endpoints: [{ address }] }),
  };
  const apiVersion = "networking.istio.io/v1";
  const service = { apiVersion, kind: "ServiceEntry", metadata, spec };
  const workload = { apiVersion, kind: "WorkloadEntry", metadata: { ...metadata, labels }, spec: { address } };
  return selected ? [workload, service] : [service];
}
