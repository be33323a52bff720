import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, before, describe, type TestContext, test } from "node:test";
import { CAPTURED_CONDITION, DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION, sleep } from "@tulle/base";
import { until } from "@tulle/lab";
import { ECHO_PORTS, echo, isCaptured, type Load, Mesh, type PodObject, type TestCluster } from "../src/index.ts";

type Side = "client" | "server";
type Labelled = "namespace" | "pod";

const NAMESPACES: Readonly<Record<Side, string>> = { client: "toggled-client", server: "toggled-server" };
/** Of each of the two clients. */
const RATE = 120;
const NEW_SHARE = 0.5;
/** Kept ones, and patience: requests that wait a second or two on a machine that does much else do not wait for each other. */
const CONNECTIONS = 32;
const TIMEOUT_MS = 10_000;
/** Twenty of each label on each side: half of them while the other side is outside of the mesh, half while it is in it. */
const SWITCHES = 10;
/** Of load in each state, after the switch to it is through: a hundred new connections of each client. */
const HELD_MS = 500;
const SWITCH_LIMIT_MS = 30_000;
/** What the conditions tell must be known to some milliseconds. */
const POLL_MS = 25;
/** How long a payload is looked for, and how often a second it is sent by each of four loads. */
const WATCHED_MS = 1500;
const WATCHED_RATE = 50;

/** Pods join and leave the mesh while others talk to them and they to others: nobody notices. */
export function suite(cluster: () => TestCluster): void {
  describe("joining and leaving the mesh under load", () => {
    const mesh = () => new Mesh(cluster());
    const namespaces = Object.values(NAMESPACES).map((name) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name },
    }));
    const applications = [
      ...echo({ name: "server", namespace: NAMESPACES.server, node: 1 }),
      ...echo({ name: "near", namespace: NAMESPACES.client, node: 1 }),
      ...echo({ name: "far", namespace: NAMESPACES.client, node: 2 }),
    ].map(withTime);
    /** The server runs on the first client's node. */
    let pods: { readonly server: PodObject; readonly near: PodObject; readonly far: PodObject };
    let service = "";
    const took: Record<"joined" | "left", number[]> = { joined: [], left: [] };

    before(async () => {
      await mesh().install();
      await cluster().apply(namespaces);
      await cluster().apply(applications);
      const only = async (name: string, side: Side) => {
        await cluster().rollout(`deploy/${name}`, NAMESPACES[side]);
        const [pod] = await cluster().pods(`app=${name}`, NAMESPACES[side]);
        assert.ok(pod !== undefined);
        return pod;
      };
      pods = {
        server: await only("server", "server"),
        near: await only("near", "client"),
        far: await only("far", "client"),
      };
      const path = `/api/v1/namespaces/${NAMESPACES.server}/services/server`;
      const object = await cluster().get<{ readonly spec: { readonly clusterIP: string } }>(path);
      assert.ok(object !== undefined);
      service = `http://${object.spec.clusterIP}/`;
      for (const from of clients()) await cluster().waitForEndpoint({ from, url: service, answer: "200 " });
    });

    after(async () => {
      await cluster().delete(namespaces);
    });

    const clients = () => [pods.near, pods.far].map(referenceOf);
    const podsOf = (side: Side) => (side === "server" ? [pods.server] : [pods.near, pods.far]);

    /** Returns the milliseconds from kubectl's return until everybody has seen it. */
    const switchTo = async (side: Side, labelled: Labelled, joined: boolean): Promise<number> => {
      const label = joined ? `${DATAPLANE_MODE_LABEL}=ambient` : `${DATAPLANE_MODE_LABEL}-`;
      const names = podsOf(side).map(({ metadata }) => metadata.name);
      const where =
        labelled === "namespace" ? ["namespace", NAMESPACES[side]] : ["pod", "-n", NAMESPACES[side], ...names];
      await cluster().kubectl(["label", ...where, label]);
      const begin = performance.now();
      for (const pod of podsOf(side)) {
        await until(async () => hasSwitched(await cluster().pod(referenceOf(pod)), joined), {
          what: `${pod.metadata.name} to have ${joined ? "joined" : "left"}`,
          timeoutMs: SWITCH_LIMIT_MS,
          intervalMs: POLL_MS,
        });
      }
      return performance.now() - begin;
    };

    /** What a test that failed left. */
    afterEach(async () => {
      for (const side of ["client", "server"] as const) {
        for (const labelled of ["namespace", "pod"] as const) await switchTo(side, labelled, false);
      }
    });

    const load = (from: string, url: string, rate = RATE): Promise<Load> =>
      cluster().startLoad(from, { url, rate, newShare: NEW_SHARE, connections: CONNECTIONS, timeoutMs: TIMEOUT_MS });

    for (const labelled of ["namespace", "pod"] as const) {
      for (const side of ["client", "server"] as const) {
        for (const other of ["outside of", "in"] as const) {
          test(`${SWITCHES} switches of the ${labelled}'s label at the ${side} while the other side is ${other} the mesh`, async (t) => {
            const otherSide = side === "client" ? "server" : "client";
            if (other === "in") await switchTo(otherSide, "namespace", true);
            await using near = await load(referenceOf(pods.near), service);
            await using far = await load(referenceOf(pods.far), service);
            const begin = performance.now();
            for (let i = 0; i < SWITCHES; i++) {
              const joined = i % 2 === 0;
              await sleep(HELD_MS);
              took[joined ? "joined" : "left"].push(await switchTo(side, labelled, joined));
            }
            await sleep(HELD_MS);
            if (other === "in") await switchTo(otherSide, "namespace", false);
            await assertNothingLost(t, (performance.now() - begin) / 1000, near, far);
          });
        }
      }
    }

    test("what is said in the mesh crosses no bridge in the clear, and outside of it can be read on each", async (t) => {
      t.diagnostic(`from the label to captured: ${inShort(took.joined)}; to no longer captured: ${inShort(took.left)}`);
      const address = pods.server.status.podIP;
      const seen = async (): Promise<Record<"near" | "far", string[]>> => {
        await using capture = await cluster().captureBridges(`host ${address}`);
        const markers = { near: randomUUID(), far: randomUUID() };
        const loads: Load[] = [];
        for (const name of ["near", "far"] as const) {
          const from = referenceOf(pods[name]);
          // To the service and to the pod itself, with HTTP and without, over kept connections and new ones.
          loads.push(await load(from, `${service}?payload=${markers[name]}`, WATCHED_RATE));
          loads.push(await load(from, `http://${address}:${ECHO_PORTS.http}/${markers[name]}`, WATCHED_RATE));
          await cluster().execDirectly(pods[name], [
            "/labbox",
            "marker",
            `tcp://${address}:${ECHO_PORTS.tcp}`,
            markers[name],
          ]);
        }
        await sleep(WATCHED_MS);
        for (const one of loads) assert.equal((await one.stop()).failed, 0);
        await capture.stop();
        for (const [bridge, count] of Object.entries(capture.payloads())) assert.ok(count > 0, `nothing on ${bridge}`);
        return { near: capture.seenOn(markers.near), far: capture.seenOn(markers.far) };
      };
      assert.deepEqual(await seen(), { near: ["n1"], far: ["nodes", "n1", "n2"] });
      for (const side of ["server", "client"] as const) await switchTo(side, "namespace", true);
      assert.deepEqual(await seen(), { near: [], far: [] });
      for (const side of ["server", "client"] as const) await switchTo(side, "namespace", false);
      assert.deepEqual(await seen(), { near: ["n1"], far: ["nodes", "n1", "n2"] });
    });
  });
}

/** A load of some hundred requests a second wants more of a busy machine than a pod that asks for nothing gets. */
function withTime(object: object): object {
  interface Deployment {
    readonly kind: string;
    readonly spec: { readonly template: { readonly spec: { containers: object[] } } };
  }
  const { kind, spec } = object as Deployment;
  if (kind !== "Deployment") return object;
  const pod = spec.template.spec;
  // A liveness probe that comes late on a busy machine would restart what is being measured.
  pod.containers = pod.containers.map((container) => ({
    ...container,
    livenessProbe: undefined,
    resources: { requests: { cpu: "200m", memory: "16Mi" }, limits: { memory: "128Mi" } },
  }));
  return object;
}

function referenceOf({ metadata }: PodObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}

/** Joined: new connections are captured, and the mesh may know. Left: they no longer are, and nobody counts on it. */
function hasSwitched(pod: PodObject, joined: boolean): boolean {
  if (joined) return isCaptured(pod);
  const condition = pod.status.conditions?.find(({ type }) => type === CAPTURED_CONDITION);
  return pod.metadata.annotations?.[REDIRECTION_ANNOTATION] === undefined && condition?.status !== "True";
}

/** `sending`: for how many seconds requests were sent at least. The summary's time has the wait for the last answers in it. */
async function assertNothingLost(t: TestContext, sending: number, ...loads: readonly Load[]): Promise<void> {
  for (const load of loads) {
    const summary = await load.stop();
    const { sent, ok, skipped, seconds, p50Ms, p99Ms, maxMs, lateMaxMs } = summary;
    t.diagnostic(
      `${ok} of ${sent} requests in ${Math.round(seconds)} s, p50 ${p50Ms} ms, p99 ${p99Ms} ms, max ${maxMs} ms, late by ${lateMaxMs} ms at most`,
    );
    assert.deepEqual(load.failures, [], `requests were sent up to ${lateMaxMs} ms late`);
    assert.deepEqual([ok, skipped], [sent, 0]);
    // A sender that a busy machine kept waiting makes up for it, but not for what it missed at the very end.
    assert.ok(sent >= (RATE * sending) / 2, `only ${sent} requests in ${sending} s`);
    assert.ok(Math.abs(summary.new - summary.kept) <= 1, `${summary.new} new, ${summary.kept} kept`);
  }
}

/** Milliseconds. */
function inShort(durations: readonly number[]): string {
  const sorted = durations.toSorted((a, b) => a - b).map(Math.round);
  return `median ${sorted[sorted.length >> 1]} ms, most ${sorted.at(-1)} ms of ${sorted.length}`;
}
