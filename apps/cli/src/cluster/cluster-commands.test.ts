import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeObject } from "@tulle/store";
import { assertGolden } from "../../test/golden.ts";
import { memoryCluster, type PodAnswers } from "../../test/memory-cluster.ts";
import { tulle } from "../../test/run-cli.ts";
import { shopObjects, type Trouble } from "../../test/shop.ts";
import { readWords } from "./explain-command.ts";
import { versionOf, type MeshVersions } from "./versions.ts";
import { versionText } from "./version-command.ts";

/** status, explain and version on a mesh that is well and on one that is not. */

const run = (objects: readonly KubeObject[], args: readonly string[], answers: PodAnswers = {}) =>
  tulle(args, { connect: () => memoryCluster(objects, answers) });
const TROUBLE: Trouble = { agent: true, policy: true };

test("status of a mesh that is well", async () => {
  const { out, error, exitCode } = await run(shopObjects(), ["status"]);
  assert.equal(exitCode, 0, error);
  assertGolden("status/well.txt", out);
});

test("status of a mesh that is not", async () => {
  const { out, exitCode } = await run(shopObjects(TROUBLE), ["status"]);
  assert.equal(exitCode, 1);
  assertGolden("status/trouble.txt", out);
  assertGolden("status/trouble-json.txt", (await run(shopObjects(TROUBLE), ["status", "-o", "json"])).out);
});

test("status tells of whatever the mesh says does not work, on every kind of object, and of nobody else's conditions", async () => {
  const { out, exitCode } = await run(shopObjects({ waypoint: true }), ["status"]);
  assert.equal(exitCode, 1);
  assertGolden("status/waypoint.txt", out);
});

test("status -o wide names every pod, more of each node, and everything that is wrong", async () => {
  assertGolden("status/well-wide.txt", (await run(shopObjects(), ["status", "-o", "wide"])).out);
  assertGolden("status/trouble-wide.txt", (await run(shopObjects(TROUBLE), ["status", "-o", "wide"])).out);
  assertGolden("status/well-yaml.txt", (await run(shopObjects(), ["status", "-o", "yaml"])).out);
});

test("status cuts long lists, unless they are asked for", async () => {
  const [policy] = shopObjects(TROUBLE).filter(({ kind }) => kind === "AuthorizationPolicy");
  const [pod] = shopObjects(TROUBLE).filter(({ metadata }) => metadata.name === "till");
  assert.ok(policy !== undefined && pod !== undefined);
  const copies = (object: KubeObject, count: number) =>
    Array.from({ length: count }, (_, i) => ({ ...object, metadata: { ...object.metadata, name: `copy-${i}` } }));
  const objects = [...shopObjects(), ...copies(policy, 52), ...copies(pod, 23)];
  const { out } = await run(objects, ["status"]);
  assert.match(out, /\n {2}and 3 more: tulle status -o wide\n/);
  assert.match(out, /\nand 2 more: tulle status -o wide\n$/);
  const wide = await run(objects, ["status", "-o", "wide"]);
  assert.doesNotMatch(wide.out, /more: tulle/);
  assert.match(wide.out, /copy-51/);
});

test("status counts those as meshed whom the installation's selectors put there, and nobody of an excluded namespace", async () => {
  const told = (env: Readonly<Record<string, string>>) =>
    shopObjects().map((object) => {
      if (object.kind !== "Deployment" || object.metadata.name !== "istiod") return object;
      const list = Object.entries(env).map(([name, value]) => ({ name, value }));
      return { ...object, spec: { template: { spec: { containers: [{ name: "discovery", env: list }] } } } };
    });
  const selectors = JSON.stringify([{ podSelector: { matchLabels: { nobody: "has-it" } } }]);
  for (const env of [{ AMBIENT_ENABLEMENT_SELECTOR: selectors }, { EXCLUDE_NAMESPACES: "kube-system,shop" }]) {
    const { out } = await run(told(env), ["status", "-o", "json"]);
    assert.deepEqual((JSON.parse(out) as { namespaces: unknown[] }).namespaces, []);
  }
  const { out } = await run(told({}), ["status", "-o", "json"]);
  assert.equal((JSON.parse(out) as { namespaces: unknown[] }).namespaces.length, 1);
});

test("status tells of a policy that is enforced otherwise than written", async () => {
  const objects = shopObjects().map((object) =>
    object.kind === "AuthorizationPolicy"
      ? {
          ...object,
          status: {
            conditions: [
              { type: "ZtunnelAccepted", status: "True", reason: "UnsupportedValue", message: "no methods" },
            ],
          },
        }
      : object,
  );
  const { out, exitCode } = await run(objects, ["status"]);
  assert.equal(exitCode, 1);
  assert.match(out, /no-tills +ZtunnelAccepted=True +UnsupportedValue +no methods\n/);
});

test("status says why a pod does not start", async () => {
  const [pod] = shopObjects().filter(({ metadata }) => metadata.name === "till");
  assert.ok(pod !== undefined);
  const waiting: KubeObject = {
    ...pod,
    metadata: { ...pod.metadata, name: "new", uid: "u1", annotations: {} },
    status: { phase: "Pending" },
  };
  const event = (lastTimestamp: string, message: string): KubeObject => ({
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: lastTimestamp, namespace: "shop" },
    involvedObject: { uid: "u1" },
    type: "Warning",
    reason: "FailedCreatePodSandBox",
    lastTimestamp,
    message,
  });
  const events = [event("2026-03-01T08:00:02Z", "no ztunnel\nis connected"), event("2026-03-01T08:00:01Z", "old")];
  const { out, exitCode } = await run([...shopObjects(), waiting, ...events], ["status"]);
  assert.equal(exitCode, 1);
  assert.match(out, /✘ shop\/new on n2 is not captured: FailedCreatePodSandBox: no ztunnel is connected\n/);
});

test("status where nothing is installed says what to do", async () => {
  const { error, exitCode } = await run([], ["status"]);
  assert.equal(exitCode, 1);
  assert.match(error, /Tulle is not installed in the namespace istio-system of kubeconfig test/);
  assert.match(error, /next: install it \(tulle install\)/);
});

const ISTIOD: PodAnswers = {
  "istio-system/istiod-1:15014": (_method, path) =>
    path === "/version"
      ? { body: "9.9.9" }
      : { body: JSON.stringify([{ proxy: "b.istio-system", istio_version: "9.9.9" }, { proxy: "a.istio-system" }]) },
};

test("version asks the control plane what runs", async () => {
  const { out, error } = await run(shopObjects(), ["version", "--context", "test"], ISTIOD);
  assert.equal(error, "");
  assertGolden("version/mesh.txt", out);
  const json = await run(shopObjects(), ["version", "--context", "test", "-o", "json"], ISTIOD);
  const { clientVersion, ...rest } = JSON.parse(json.out) as Record<string, { node?: string }>;
  assert.equal(clientVersion?.node, process.versions.node);
  assert.deepEqual(rest, {
    meshVersion: [{ Component: "pilot", Name: "istiod-1", Info: { version: "9.9.9" } }],
    dataPlaneVersion: [
      { ID: "a.istio-system", IstioVersion: "" },
      { ID: "b.istio-system", IstioVersion: "9.9.9" },
    ],
  });
});

test("version -o wide names every component; without a cluster there is only this program", async () => {
  const node = (text: string) => text.replaceAll(process.versions.node, "<node>");
  const wide = await run(shopObjects(), ["version", "--context", "test", "-o", "wide"], ISTIOD);
  assertGolden("version/mesh-wide.txt", node(wide.out));
  const yaml = await run(shopObjects(), ["version", "--context", "test", "-o", "yaml"], ISTIOD);
  assertGolden("version/mesh-yaml.txt", node(yaml.out));
  const json = await run(shopObjects(), ["version", "--context", "test", "-o", "json"], ISTIOD);
  assertGolden("version/mesh-json.txt", node(json.out));
  for (const output of ["short", "wide", "json", "yaml"]) {
    const { out, error, exitCode } = await tulle(["version", "--no-remote", "-o", output]);
    assert.deepEqual([error, exitCode], ["", 0]);
    assertGolden(`version/client-${output}.txt`, node(out));
  }
});

test("version of a cluster that does not answer is still the client's", async () => {
  const { out, error, exitCode } = await tulle(["version", "--context", "x"], {
    connect: () => Promise.reject(new Error("no route")),
  });
  assert.equal(exitCode, 0);
  assert.match(out, /^client version: [\d.]+\n$/);
  assert.match(error, /the cluster does not answer: no route/);
});

test("a version is plain text or JSON, and several control planes are named", () => {
  assert.equal(versionOf("1.2.3\n"), "1.2.3");
  assert.equal(versionOf('{"clientVersion":{"version":"1.2.4"}}'), "1.2.4");
  assert.equal(versionOf('{"broken'), "unknown");
  const versions: MeshVersions = {
    controlPlanes: [
      { name: "istiod-1", version: "1" },
      { name: "istiod-2", version: "2" },
    ],
    proxies: [],
    problems: [],
  };
  assert.match(versionText(versions), /\nistiod-1 version: 1\nistiod-2 version: 2\ndata plane version: none\n$/);
});

const explanation = (outcome: string, text: string, more: object = {}) =>
  ({
    "istio-system/ztunnel-a:15000": (_method: string, path: string) =>
      path === "/explain?src=shop%2Fcart&dst=till%3A80"
        ? {
            body: JSON.stringify({
              outcome,
              steps: [
                { code: "source", text: "shop/cart is known" },
                { code: "verdict", text },
              ],
              ...more,
            }),
          }
        : { status: 400, body: path },
  }) satisfies PodAnswers;

const EXPLAINED: readonly (readonly [name: string, exitCode: number, answers: PodAnswers])[] = [
  ["allowed", 0, explanation("hbone", "allowed: nothing restricts it")],
  ["denied", 1, explanation("denied", "denied: explicitly denied by: shop/no-tills", { policy: "shop/no-tills" })],
  ["plaintext", 0, explanation("plaintext", "unencrypted to 10.0.0.1:80")],
  ["unknown", 1, explanation("unknown", 'the mesh has no address for "till"')],
];

for (const [name, code, answers] of EXPLAINED) {
  test(`explain prints what was looked at: ${name}`, async () => {
    const { out, error, exitCode } = await run(
      shopObjects(),
      ["explain", "from", "shop/cart", "to", "till:80"],
      answers,
    );
    assert.equal(exitCode, code, error);
    assertGolden(`explain/${name}.txt`, out);
  });
}

for (const output of ["wide", "json", "yaml"]) {
  test(`explain -o ${output} prints what was looked at, and who was asked`, async () => {
    const answers = explanation("denied", "denied: explicitly denied by: shop/no-tills", { policy: "shop/no-tills" });
    const args = ["explain", "from", "shop/cart", "to", "till:80", "-o", output];
    const { out, exitCode } = await run(shopObjects(), args, answers);
    assert.equal(exitCode, 1);
    assertGolden(`explain/denied-${output}.txt`, out);
  });
}

test("a client is named by its pod, its deployment or its address", async () => {
  const deployment: KubeObject = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "carts", namespace: "shop" },
    spec: { selector: { matchLabels: { app: "cart" } } },
  };
  const labelled = shopObjects().map((object) =>
    object.metadata.name === "cart" ? { ...object, metadata: { ...object.metadata, labels: { app: "cart" } } } : object,
  );
  const answers = explanation("hbone", "allowed");
  for (const words of [
    ["shop/cart"],
    ["cart", "-n", "shop"],
    ["10.1.1.7"],
    ["shop/deploy/carts"],
    ["deploy/carts", "-n", "shop"],
    ["shop/carts"],
  ]) {
    const [from = "", ...flags] = words;
    const { exitCode, error } = await run(
      [...labelled, deployment],
      ["explain", "from", from, "to", "till:80", ...flags],
      answers,
    );
    assert.equal(exitCode, 0, `${words.join(" ")}: ${error}`);
  }
});

test("a question that is none is refused with an example", async () => {
  for (const words of [
    ["a", "b"],
    ["from", "a"],
    ["from", "a", "to", "b"],
    ["from", "a", "to", "b:80", "c"],
  ]) {
    assert.throws(() => readWords(words), /is not a question|has no port/);
  }
  const { error, exitCode } = await run(shopObjects(), ["explain", "from", "nobody", "to", "till:80"]);
  assert.equal(exitCode, 1);
  assert.match(error, /there is no pod nobody, nor a deployment of that name/);
});
