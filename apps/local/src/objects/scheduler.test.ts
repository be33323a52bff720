import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import { until } from "@tulle/lab";
import { UserFolder } from "../../test/user-folder.ts";
import { addressPlan } from "./addresses.ts";
import { isReady, type Pod, type PodStatus } from "./pod.ts";
import { type PodStart, Scheduler } from "./scheduler.ts";
import { ObjectView } from "./view.ts";

const NAMESPACE =
  "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n";
const IMAGES = "images: {web: [node, web.ts]}\n";

function web(replicas: number, label = "v1"): string {
  return `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: ${label}}}
    spec:
      containers:
      - name: web
        image: web
        args: [--verbose]
        env:
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: COLOUR, value: blue}
`;
}

/** A scheduler over a directory; its pods are only written down. */
class World implements AsyncDisposable {
  readonly folder: UserFolder;
  readonly started: PodStart[] = [];
  readonly running = new Map<string, PodStart>();
  #view: ObjectView;
  #scheduler: Scheduler;

  private constructor(folder: UserFolder) {
    this.folder = folder;
    [this.#view, this.#scheduler] = this.#open();
  }

  static async create(deployment: string): Promise<World> {
    const files = { "namespace.yaml": NAMESPACE, "web.yaml": deployment, "images.yaml": IMAGES };
    const world = new World(await UserFolder.open(files));
    await world.#begin();
    return world;
  }

  get pods(): readonly Pod[] {
    return this.#view.current.pods;
  }

  async restart(): Promise<void> {
    await this.#end();
    await this.folder.reopen();
    [this.#view, this.#scheduler] = this.#open();
    await this.#begin();
  }

  async settles(what: string, condition: (pods: readonly Pod[]) => boolean): Promise<readonly Pod[]> {
    await until(() => condition(this.pods), { what });
    return this.pods;
  }

  becomeReady(): void {
    const status: PodStatus = { phase: "Running", conditions: [{ type: "Ready", status: "True" }] };
    for (const { report } of this.running.values()) report(status);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await this.folder[Symbol.asyncDispose]();
  }

  #open(): [ObjectView, Scheduler] {
    const { user } = this.folder;
    const view = new ObjectView(user.store, silentLog);
    const scheduler = new Scheduler({
      plan: addressPlan(201, true),
      store: user.store,
      objects: () => view.current,
      images: () => user.images,
      systemPods: [],
      log: silentLog,
      start: (start) => {
        const uid = start.pod.metadata.uid ?? "";
        this.started.push(start);
        this.running.set(uid, start);
        return {
          stop: () => Promise.resolve(),
          remove: () => {
            this.running.delete(uid);
            return Promise.resolve();
          },
        };
      },
    });
    return [view, scheduler];
  }

  async #begin(): Promise<void> {
    await this.#view.whenSynced();
    await this.#scheduler.adopt(this.#view.current.pods);
    this.#view.subscribe(() => this.#scheduler.reconcile());
  }

  async #end(): Promise<void> {
    await this.#scheduler.close();
    this.#view[Symbol.dispose]();
  }
}

test("pods are spread over the nodes, with addresses, command, arguments and environment", async () => {
  await using world = await World.create(web(3));
  await world.settles("three pods", (pods) => pods.length === 3);
  assert.deepEqual(
    world.started.map(({ pod, address }) => [pod.spec.nodeName, address.v4]),
    [
      ["node-1", "10.201.1.10"],
      ["node-2", "10.201.2.10"],
      ["node-1", "10.201.1.11"],
    ],
  );
  const [first] = world.started;
  assert.deepEqual(first?.containers[0]?.command, ["node", "web.ts", "--verbose"]);
  assert.deepEqual(first?.containers[0]?.env, { NODE: "node-1", IP: "10.201.1.10", COLOUR: "blue" });
});

test("names, uids, nodes and addresses survive a restart", async () => {
  await using world = await World.create(web(3));
  await world.settles("three pods", (pods) => pods.length === 3);
  const seen = () =>
    [...world.running.values()]
      .map(({ pod: { metadata, spec }, address }) =>
        [metadata.name, metadata.uid, spec.nodeName, address.v4, address.v6].join(" "),
      )
      .toSorted((a, b) => (a < b ? -1 : 1));
  const before = seen();
  await world.restart();
  await world.settles("three pods", (pods) => pods.length === 3);
  assert.deepEqual(seen(), before);
});

test("after a restart with another directory, what is no longer wanted is deleted", async () => {
  await using world = await World.create(web(3));
  await world.settles("three pods", (pods) => pods.length === 3);
  world.folder.write("web.yaml", web(1));
  await world.restart();
  await world.settles("one pod", (pods) => pods.length === 1);
  world.folder.remove("web.yaml");
  await world.restart();
  await world.settles("no pod", (pods) => pods.length === 0);
  assert.equal(world.running.size, 0);
});

test("a pod that goes away and comes back has another uid and address", async () => {
  await using world = await World.create(web(1));
  const [before] = await world.settles("a pod", (pods) => pods.length === 1);
  world.folder.write("web.yaml", web(0));
  await world.settles("no pod", (pods) => pods.length === 0);
  world.folder.write("web.yaml", web(1));
  const [after] = await world.settles("a pod again", (pods) => pods.length === 1);
  assert.equal(after?.metadata.name, before?.metadata.name);
  assert.notEqual(after?.metadata.uid, before?.metadata.uid);
  assert.notEqual(world.started[1]?.address.v4, world.started[0]?.address.v4);
});

test("a changed template replaces the pod when the new one is ready", async () => {
  await using world = await World.create(web(1));
  await world.settles("a pod", (pods) => pods.length === 1);
  world.becomeReady();
  await world.settles("a ready pod", (pods) => pods.every(isReady));
  world.folder.write("web.yaml", web(1, "v2"));
  const both = await world.settles("a second pod", (pods) => pods.length === 2);
  assert.deepEqual(
    new Map(both.map((pod) => [pod.metadata.labels.version, isReady(pod)])),
    new Map([
      ["v1", true],
      ["v2", false],
    ]),
  );
  world.becomeReady();
  const [left] = await world.settles("the first pod to go", (pods) => pods.length === 1);
  assert.equal(left?.metadata.labels.version, "v2");
});

test("a changed command of an image replaces the pod, too", async () => {
  await using world = await World.create(web(1));
  const [before] = await world.settles("a pod", (pods) => pods.length === 1);
  world.folder.write("images.yaml", IMAGES.replace("web.ts", "other.ts"));
  await until(() => world.folder.looks.some(({ imagesChanged }) => imagesChanged), { what: "the change to be seen" });
  await world.restart();
  await world.settles("another pod", (pods) => pods.length === 2);
  world.becomeReady();
  const [after] = await world.settles("the first to go", (pods) => pods.length === 1);
  assert.notEqual(after?.metadata.name, before?.metadata.name);
  assert.deepEqual(world.started.at(-1)?.containers[0]?.command, ["node", "other.ts", "--verbose"]);
});
