import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { REDIRECTION_ANNOTATION } from "@tulle/base";
import { until } from "@tulle/lab";
import { nameTests } from "../cluster/acceptance/names.ts";
import { policyTests } from "../cluster/acceptance/policies.ts";
import { type App, ELSEWHERE, hosts, NAMESPACE, OUT_OF_MESH } from "../cluster/acceptance/scene.ts";
import { countingTests } from "../cluster/acceptance/telemetry.ts";
import { reachTests } from "../cluster/acceptance/traffic.ts";
import { ECHO_PORTS, isCaptured, type PodObject } from "../cluster/src/index.ts";
import type { LoadOrder, LoadSummary } from "./fixtures/echo/load.ts";
import { deployment, LocalScene, namespaceObject } from "./local-scene.ts";

/** What an ambient mesh must do on layer 4: the cluster's tables, and what a mesh of one machine does in its own way. */

/** New connections to a service, forty milliseconds apart, as on the cluster. */
const RATE = 25;
/** Of toggles: half of them on kept connections. */
const TOGGLE_RATE = 100;
const TOGGLES = 5;
/** Pods serve on for ten seconds before they go, one after the other. */
const SLOW = { timeoutMs: 120_000, intervalMs: 50 };
const CAPTURED_URL = `http://captured.${NAMESPACE}/`;

type LoadOf = Omit<LoadOrder, "do"> & { readonly from: App };
type Result = LoadSummary & { readonly pod: string };

describe("layer 4 acceptance on one machine", () => {
  let local: LocalScene;
  const scene = () => local;

  before(async () => {
    local = await LocalScene.start();
  });

  after(async () => {
    await local?.[Symbol.asyncDispose]();
  });

  describe("traffic", () => {
    reachTests(scene);

    test("stays on one pod as long as its connection lasts", async () => {
      for (const from of ["client", "uncaptured"] as const) {
        const said = await local.getOnOneConnection(from, ...Array<string>(10).fill(CAPTURED_URL));
        const answers = said.split("\n").map((line) => JSON.parse(line.slice(line.indexOf("{"))));
        assert.equal(answers.length, 10);
        assert.equal(new Set(answers.map(({ pod }) => pod)).size, 1, from);
        assert.equal(new Set(answers.map(({ remote }) => remote)).size, 1, from);
      }
    });
  });

  nameTests(scene);
  policyTests(scene);

  describe("layer 4 telemetry", () => {
    countingTests(scene);
  });

  describe("life goes on", () => {
    /** What the loads come to that run while something happens. */
    const during = async (loads: readonly LoadOf[], happens: () => Promise<void>): Promise<Result[]> => {
      for (const { from, ...load } of loads) await local.startLoad(from, load);
      let results: Result[] = [];
      try {
        await happens();
      } finally {
        results = await Promise.all(
          loads.map(async ({ from }) => ({ pod: local.pod(from).metadata.name, ...(await local.stopLoad(from)) })),
        );
      }
      return results;
    };
    const unharmed = (results: readonly Result[]) => {
      for (const { pod, sent, failures } of results) {
        const told = failures.map(({ from, error }) => `${new Date(from).toISOString()} ${pod}: ${error}`);
        assert.equal(failures.length, 0, `${failures.length} of ${sent} failed:\n${told.slice(0, 5).join("\n")}`);
        assert.ok(sent > RATE, `only ${sent} requests`);
      }
    };
    const toService = (...clients: readonly App[]): LoadOf[] =>
      clients.map((from) => ({ from, url: CAPTURED_URL, rate: RATE, newShare: 1 }));
    /** Waits until the service has two pods, all of them such ones. */
    const captured = (what: string, isNew: (pod: PodObject) => boolean) =>
      until(
        async () => {
          const pods = await local.podsNow("captured");
          const ready = ({ status }: PodObject) =>
            status.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") === true;
          return pods.length === 2 && pods.every((pod) => isNew(pod) && ready(pod));
        },
        { what, ...SLOW },
      );
    const isAsked = ({ metadata }: PodObject) => metadata.annotations?.[REDIRECTION_ANNOTATION] !== undefined;

    // First: the pods that the others replace may all come to one node.
    test("where a ztunnel that crashes has no part, and elsewhere as soon as it is back", async () => {
      const { nodeName } = local.pod("client").spec;
      const near = local.pods("captured").find(({ spec }) => spec.nodeName === nodeName) ?? assert.fail();
      const far = local.pods("captured").find(({ spec }) => spec.nodeName !== nodeName) ?? assert.fail();
      const address = (pod: PodObject) => `${hosts(pod)[0]}:${ECHO_PORTS.http}`;
      const loadTo = (from: App, pod: PodObject) => ({
        ...{ from, url: `http://${address(pod)}/`, rate: TOGGLE_RATE, newShare: 0.5 },
      });
      const part = `ztunnel-${far.spec.nodeName}`;
      const [unconcerned, concerned] = await during([loadTo("client", near), loadTo("stranger", far)], async () => {
        const pid = (await local.mesh.partOf(part)) ?? assert.fail(`${part} does not run`);
        process.kill(pid, "SIGKILL");
        await until(async () => (await local.mesh.partOf(part)) !== pid && local.reaches("client", address(far)), {
          what: `${part} to be back`,
          ...SLOW,
        });
      });
      unharmed(unconcerned === undefined ? [] : [unconcerned]);
      assert.ok((concerned?.failures.length ?? 0) > 0, "nobody has noticed the crash");
    });

    test("while all pods of a service are replaced", async () => {
      const annotations = { restarted: "once" };
      unharmed(
        await during(toService("client", "uncaptured"), async () => {
          await local.apply(deployment("captured", { annotations }));
          await captured("new pods", ({ metadata }) => metadata.annotations?.restarted === "once");
        }),
      );
    });

    test("while a label of its own takes a service's pods out of the mesh and into it again", async () => {
      unharmed(
        await during(toService("client", "uncaptured"), async () => {
          await local.apply(deployment("captured", { labels: OUT_OF_MESH }));
          await captured("pods outside of the mesh", (pod) => !isAsked(pod));
          await local.apply(deployment("captured"));
          await captured("pods of the mesh", isCaptured);
        }),
      );
      const pods = await local.look("captured");
      for (const pod of pods) {
        const answer = await local.ask("client", `http://${hosts(pod)[0]}:${ECHO_PORTS.http}/`);
        assert.equal(answer.pod, pod.metadata.name);
      }
    });

    for (const [side, namespace, app] of [
      ["server", NAMESPACE, "captured"],
      ["client", ELSEWHERE, "visitor"],
    ] as const) {
      test(`while the ${side}'s namespace leaves the mesh and joins it, five times`, async () => {
        const before = await local.podsNow(app);
        const loads = (["visitor", "uncaptured"] as const).map((from) => ({
          ...{ from, url: CAPTURED_URL, rate: TOGGLE_RATE, newShare: 0.5 },
        }));
        const pods = (wanted: boolean) =>
          until(async () => (await local.podsNow(app)).every((pod) => (wanted ? isCaptured(pod) : !isAsked(pod))), {
            what: `${app} to be ${wanted ? "captured" : "let go"}`,
            ...SLOW,
          });
        unharmed(
          await during(loads, async () => {
            for (let i = 0; i < TOGGLES; i++) {
              await local.apply(namespaceObject(namespace, false));
              await pods(false);
              await local.apply(namespaceObject(namespace));
              await pods(true);
            }
          }),
        );
        const names = (list: readonly PodObject[]) => list.map(({ metadata }) => metadata.uid);
        assert.deepEqual(names(await local.podsNow(app)), names(before), "no pod was replaced");
      });
    }
  });
});
