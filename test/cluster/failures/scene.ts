import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type CommandError, until } from "@tulle/lab";
import { BridgeCapture } from "../src/bridge-capture.ts";
import { ECHO_PORTS, type EchoOptions, echo } from "../src/echo.ts";
import type { HeldConnection } from "../src/held-connection.ts";
import type { PodObject } from "../src/containers.ts";
import type { Load } from "../src/load.ts";
import { ENROL, Mesh } from "../src/mesh.ts";
import type { TestCluster } from "../src/test-cluster.ts";

export const FAILING = "failing";
/** Longer than anything here takes to be noticed: what ends earlier was ended by somebody. */
const PATIENCE_MS = 60_000;
/** From a pod that may start to one that is Ready: kubelet tries a failed sandbox again after some ten seconds. */
const START_LIMIT_MS = 120_000;
/**
 * A second; the rest is for a machine that does much else. What it tells apart is a change that is seen while the part is
 * away from one that waits for it: the outage lasts until then.
 */
export const AT_ONCE_MS = 10_000;
/** Longer than AT_ONCE_MS: what comes late is told by how long it took. */
const EFFECT_LIMIT_MS = 60_000;
/** For one question. What is refused ends at once; only a machine that is far too busy takes long. */
const ANSWER_TIMEOUT = "20s";
const DEPLOYMENTS = ["caller", "near", "far", "peer"] as const;

interface EventList {
  readonly items: readonly {
    readonly reason: string;
    readonly message?: string;
    readonly involvedObject: { readonly name?: string };
  }[];
}

/**
 * A small application in the mesh: `caller` and `near` on n1, `far` and `peer` on n2. The Service `either` leads to near
 * and far.
 * The caller may never connect to port 9001 of near and far: that is a policy which has to hold whatever fails.
 */
export class Scene {
  readonly cluster: TestCluster;
  readonly mesh: Mesh;
  readonly marker = `failures-${randomUUID()}`;
  /** As they were when last asked for, for times without an API server. */
  caller!: PodObject;
  near!: PodObject;
  far!: PodObject;
  peer!: PodObject;
  readonly #services = new Map<string, string>();

  constructor(cluster: TestCluster) {
    this.cluster = cluster;
    this.mesh = new Mesh(cluster);
  }

  async start(): Promise<void> {
    const [key = "", value = ""] = ENROL.split("=");
    await this.cluster.apply([
      { apiVersion: "v1", kind: "Namespace", metadata: { name: FAILING, labels: { [key]: value } } },
      ...app({ name: "caller", node: 1 }),
      ...app({ name: "near", node: 1, labels: { side: "either" } }),
      ...app({ name: "far", node: 2, labels: { side: "either" } }),
      ...app({ name: "peer", node: 2 }),
      either(),
      denyPort(),
    ]);
    await Promise.all(DEPLOYMENTS.map((name) => this.cluster.rollout(`deploy/${name}`, FAILING)));
    await this.refresh();
    for (const name of [...DEPLOYMENTS, "either"]) {
      const path = `/api/v1/namespaces/${FAILING}/services/${name}`;
      const service = await this.cluster.get<{ spec: { clusterIP: string } }>(path);
      this.#services.set(name, service?.spec.clusterIP ?? assert.fail(`there is no service ${name}`));
    }
    for (const name of ["near", "far", "peer", "either"]) await this.served(this.url(name));
    await until(() => this.policyHolds().then(() => true), { what: "the policy to be in force", timeoutMs: 60_000 });
  }

  async remove(): Promise<void> {
    await this.cluster.kubectl(["delete", "namespace", FAILING, "--ignore-not-found"], { timeoutMs: 120_000 });
  }

  /** Waits until the four pods are captured, and remembers them. */
  async refresh(): Promise<void> {
    [this.caller, this.near, this.far, this.peer] = await Promise.all([
      this.running("caller"),
      this.running("near"),
      this.running("far"),
      this.running("peer"),
    ]);
  }

  /** The only pod of an app, Ready and captured. */
  async running(name: string): Promise<PodObject> {
    return until(
      async () => {
        const [pod, ...others] = await this.cluster.pods(`app=${name}`, FAILING);
        const ready = pod?.status.containerStatuses?.[0]?.ready === true;
        if (pod === undefined || others.length > 0 || !ready) return undefined;
        return this.mesh.waitForCaptured(nameOf(pod));
      },
      { what: `${name} to run, captured`, timeoutMs: START_LIMIT_MS, intervalMs: 200 },
    );
  }

  /** By a service's or a pod's address; the marker is in every request. */
  url(to: string | PodObject, port: number = ECHO_PORTS.http): string {
    return `http://${this.#address(to)}:${port}/?marker=${this.marker}`;
  }

  /** A connection of the caller (or another pod), which is kept. */
  hold(to: string | PodObject, from = this.caller): Promise<HeldConnection> {
    const address = `${this.#address(to)}:${ECHO_PORTS.tcp}`;
    return this.cluster.holdConnection(from, { address, timeoutMs: PATIENCE_MS });
  }

  /** New connections of the caller, one after the other and never tried again. */
  requests(to: string | PodObject, rate = 20): Promise<Load> {
    return this.cluster.startLoad(this.caller, { url: this.url(to), rate, newShare: 1, timeoutMs: 10_000 });
  }

  /** One request, once. Rejects when there is no answer. */
  ask(url: string, from = this.caller, timeout = ANSWER_TIMEOUT): Promise<string> {
    return this.cluster.execDirectly(from, ["/labbox", "get", `-timeout=${timeout}`, url]);
  }

  /** Waits until there is an answer. */
  served(url: string, from = this.caller): Promise<string> {
    return until(() => this.ask(url, from, "3s"), {
      what: `an answer from ${url}`,
      timeoutMs: 60_000,
      intervalMs: 200,
    });
  }

  /** Asks once and throws when there is an answer. */
  async refused(url: string, from = this.caller): Promise<void> {
    const answer = await this.ask(url, from).catch(() => undefined);
    if (answer !== undefined) assert.fail(`${url} was to be refused, but answered ${answer}`);
  }

  /** Asks once: the port that policy closes is refused at far, and answers at peer, which the policy does not concern. */
  async policyHolds(): Promise<void> {
    assert.match(await this.#greeting("peer"), /^hello from peer-/);
    await assert.rejects(this.#greeting("far"), (error: CommandError) => /reset|EOF|refused/.test(error.stderr));
  }

  /** From now on nobody of the namespace may connect to an app. Resolves when the API server has it. */
  async deny(app: string): Promise<void> {
    await this.cluster.apply(denial(app));
  }

  async allow(app: string): Promise<void> {
    await this.cluster.delete(denial(app));
  }

  /** Denies an app and allows it again, both of which must be seen at once. Returns after how many milliseconds the first was. */
  async policyTakesEffectAtOnce(app: string): Promise<number> {
    const took = await this.policyTakesEffect(app);
    for (const ms of took) assert.ok(ms < AT_ONCE_MS, `it took ${Math.round(ms)} ms`);
    return took[0];
  }

  /** Denies an app and allows it again. Returns after how many milliseconds each was seen. */
  async policyTakesEffect(app: string): Promise<[denied: number, allowed: number]> {
    let denied: number;
    try {
      await this.deny(app);
      denied = await this.takesEffect(app, true);
    } finally {
      await this.allow(app);
    }
    return [denied, await this.takesEffect(app, false)];
  }

  /** Waits until the change is seen, and says how long that took, in milliseconds. */
  async takesEffect(app: string, refused: boolean): Promise<number> {
    const start = performance.now();
    await until(
      async () => {
        const answered = await this.ask(this.url(app), this.caller, "3s").then(
          () => true,
          () => false,
        );
        return answered !== refused;
      },
      { what: `${app} to be ${refused ? "refused" : "allowed"}`, timeoutMs: EFFECT_LIMIT_MS },
    );
    return performance.now() - start;
  }

  /** Makes an app of one pod and returns that as soon as there is one; it need not have started. */
  async newPod(options: Pick<EchoOptions, "name" | "node" | "labels"> & { readonly namespace?: string }) {
    const { name, namespace = FAILING } = options;
    await this.cluster.apply(app(options));
    return until(async () => (await this.cluster.pods(`app=${name}`, namespace))[0], {
      what: `a pod of ${name}`,
      timeoutMs: START_LIMIT_MS,
      intervalMs: 100,
    });
  }

  async removePod(name: string, namespace = FAILING): Promise<void> {
    await this.cluster.kubectl(
      ["delete", "deploy,svc,sa", name, "-n", namespace, "--ignore-not-found", "--wait=false"],
      { timeoutMs: START_LIMIT_MS },
    );
  }

  /** Waits for an Event of the pod that says so. The pod must not have started. */
  async isHeldBack(pod: PodObject, why: RegExp): Promise<void> {
    const { namespace, name } = pod.metadata;
    await until(() => this.hasEvent(pod, "FailedCreatePodSandBox", why), {
      what: `an Event of ${name} that says ${why}`,
      timeoutMs: START_LIMIT_MS,
      intervalMs: 200,
    });
    const now = await this.cluster.pod(`${namespace}/${name}`);
    assert.equal(now.status.phase, "Pending");
    for (const { containerID } of now.status.containerStatuses ?? []) assert.equal(containerID, undefined);
  }

  async hasEvent(pod: PodObject, reason: string, text: RegExp): Promise<boolean> {
    const events = await this.cluster.get<EventList>(`/api/v1/namespaces/${pod.metadata.namespace}/events`);
    return (events?.items ?? []).some(
      (event) =>
        event.involvedObject.name === pod.metadata.name && event.reason === reason && text.test(event.message ?? ""),
    );
  }

  /** Sees what goes over every bridge from now on. */
  watchWire(): Promise<BridgeCapture> {
    return BridgeCapture.start(this.cluster.cluster, "tcp and net 10.244.0.0/16");
  }

  /** The marker was never on a bridge in the clear, though there was traffic. Ends the capture. */
  async nothingInPlaintext(wire: BridgeCapture): Promise<void> {
    await wire.stop();
    assert.deepEqual(wire.seenOn(this.marker), []);
    assert.ok((wire.payloads().nodes ?? 0) > 0, "nothing was captured");
  }

  /** What the server says that speaks first. */
  #greeting(to: string): Promise<string> {
    const address = `tcp://${this.#address(to)}:${ECHO_PORTS.serverFirst}`;
    return this.cluster.execDirectly(this.caller, [
      "/labbox",
      "marker",
      `-timeout=${ANSWER_TIMEOUT}`,
      address,
      "hello",
    ]);
  }

  #address(to: string | PodObject): string {
    if (typeof to !== "string") return to.status.podIP ?? assert.fail(`${to.metadata.name} has no address`);
    return this.#services.get(to) ?? assert.fail(`${to} is no service of the scene`);
  }
}

export function nameOf({ metadata }: PodObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function app({ namespace = FAILING, ...options }: EchoOptions): object[] {
  return echo({ ...options, namespace });
}

function either(): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "either", namespace: FAILING },
    spec: {
      selector: { side: "either" },
      ports: [
        { name: "http", port: ECHO_PORTS.http },
        { name: "tcp", port: ECHO_PORTS.tcp },
      ],
    },
  };
}

function denyPort(): object {
  const to = [{ operation: { ports: [String(ECHO_PORTS.serverFirst)] } }];
  return policy("deny-port", {
    selector: { matchLabels: { side: "either" } },
    action: "DENY",
    rules: [{ to }],
  });
}

function denial(name: string): object {
  const from = [{ source: { namespaces: [FAILING] } }];
  return policy(`deny-${name}`, { selector: { matchLabels: { app: name } }, action: "DENY", rules: [{ from }] });
}

function policy(name: string, spec: object): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name, namespace: FAILING },
    spec,
  };
}
