import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Log, silentLog, sleep } from "@tulle/base";
import {
  AUTHORIZATION_POLICY,
  CONFIG_MAP,
  NAMESPACE,
  POD,
  SERVICE,
  TOKEN_REVIEW,
  type ResourceKind,
} from "@tulle/store";
import { DirectoryStore, type DirectoryStoreOptions, formatProblem } from "@tulle/store/directory";

const policy = (name: string, action: string, namespace?: string): string =>
  `apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata:
  name: ${name}
${namespace === undefined ? "" : `  namespace: ${namespace}\n`}spec:
  action: ${action}
`;
const namespaceYaml = (name: string): string => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`;
const P = { namespace: "default", name: "p" };

describe("the user's directory", () => {
  test("objects come with namespace, served version and what the store adds, without status", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", `# first\n${policy("p", "DENY")}status: {conditions: []}\n---\n---\n${namespaceYaml("shop")}`);
    await using store = await mesh.open();
    const found = await store.get(AUTHORIZATION_POLICY, P);
    assert.deepEqual(
      [found?.apiVersion, found?.spec, found?.status],
      ["security.istio.io/v1", { action: "DENY" }, undefined],
    );
    assert.deepEqual([found?.metadata.generation, found?.metadata.namespace], [1, "default"]);
    assert.equal(store.declaredAt(AUTHORIZATION_POLICY, P), "a.yaml:2");
    const namespaces = (await store.list(NAMESPACE)).map(({ metadata }) => metadata.name);
    assert.deepEqual(namespaces, ["default", "istio-system", "kube-system", "shop"]);
    assert.deepEqual(store.problems, []);
  });

  test("a broken file leaves what it said last, over restarts too, and never hides the others", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    mesh.write("b.yaml", policy("q", "DENY"));
    {
      await using store = await mesh.open();
      const problems = await mesh.change(store, AUTHORIZATION_POLICY, () => {
        mesh.write("a.yaml", `${policy("p", "ALLOW")}---\nkind: [broken\n`);
        mesh.write("b.yaml", policy("q", "ALLOW"));
      });
      assert.deepEqual(problems.calls, ["put q ALLOW"]);
      await until("the problem", () => store.problems.length > 0);
      assert.match(formatProblem(store.problems[0] ?? { file: "", line: 0, message: "" }), /^a\.yaml:9: /);
    }
    await using again = await mesh.open();
    assert.deepEqual((await again.get(AUTHORIZATION_POLICY, P))?.spec, { action: "DENY" });
    assert.equal(again.problems.length > 0, true);
    const mended = await mesh.change(again, AUTHORIZATION_POLICY, () => mesh.write("a.yaml", policy("p", "ALLOW")));
    assert.deepEqual(mended.calls, ["put p ALLOW"]);
    await until("no problems", () => again.problems.length === 0);
  });

  test("a stricter check refuses a document with its line, and objects that do not go together by their file", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    mesh.write("b.yaml", `${namespaceYaml("shop")}---\n${policy("q", "AUDIT")}`);
    mesh.write("c.yaml", policy("r", "DENY"));
    const changes: number[] = [];
    await using store = await mesh.open({
      onImported: (result) => changes.push(result.changes),
      checks: {
        document: (value, report) => {
          const { spec } = value as { readonly spec?: { readonly action?: string } };
          if (spec?.action === "AUDIT") report(["spec", "action"], "no audits");
        },
        together: (declared) =>
          declared
            .filter(({ object }) => object.metadata.name === "r" && declared.length > 1)
            .map(({ file, line }) => ({ file, line, message: "r stands alone" })),
      },
    });
    assert.deepEqual(store.problems.map(formatProblem).sort(), ["b.yaml:10: no audits", "c.yaml:1: r stands alone"]);
    assert.deepEqual(
      (await store.list(AUTHORIZATION_POLICY)).map(({ metadata }) => metadata.name),
      ["p"],
    );
    assert.deepEqual(changes, [1]);
    const replaced = await mesh.change(store, AUTHORIZATION_POLICY, () => mesh.write("a.yaml", policy("p", "ALLOW")));
    assert.deepEqual(replaced.calls, ["put p ALLOW"]);
    await until("the change to be told", () => changes.slice(1).includes(1));
  });

  test("files beyond the number that is read keep what they said last, over restarts too", async () => {
    await using mesh = makeMesh();
    mesh.write("z.yaml", policy("p", "DENY"));
    {
      await using _ = await mesh.open();
    }
    for (let i = 0; i < 1000; i++) mesh.write(`a${i}.yaml`, "");
    mesh.write("z.yaml", policy("p", "ALLOW"));
    await using store = await mesh.open();
    assert.match(store.problems.map(formatProblem).join(), /^z\.yaml:1: more than 1000 files/);
    assert.deepEqual((await store.get(AUTHORIZATION_POLICY, P))?.spec, { action: "DENY" });
  });

  test("a file that was never good gives nothing at all", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", `${policy("p", "DENY")}---\n${policy("q", "DENY", "nowhere")}`);
    mesh.write("b.yaml", policy("r", "DENY"));
    await using store = await mesh.open();
    const names = (await store.list(AUTHORIZATION_POLICY)).map(({ metadata }) => metadata.name);
    assert.deepEqual(names, ["r"]);
    assert.deepEqual(store.problems.map(formatProblem), [
      "a.yaml:12: AuthorizationPolicy q: namespace nowhere is not declared; add a Namespace object for it",
    ]);
  });

  test("renaming over a file, moving an object between files, and deleting a file are seen", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    await using store = await mesh.open();
    const { uid } = (await store.get(AUTHORIZATION_POLICY, P))?.metadata ?? {};
    const renamed = await mesh.change(store, AUTHORIZATION_POLICY, () => {
      mesh.write(".a.yaml.swp", policy("p", "AUDIT"));
      renameSync(join(mesh.directory, ".a.yaml.swp"), join(mesh.directory, "a.yaml"));
    });
    assert.deepEqual(renamed.calls, ["put p AUDIT"]);
    renameSync(join(mesh.directory, "a.yaml"), join(mesh.directory, "z.yaml"));
    await until("its new place", () => store.declaredAt(AUTHORIZATION_POLICY, P) === "z.yaml:1");
    const moved = (await store.get(AUTHORIZATION_POLICY, P))?.metadata;
    assert.deepEqual([moved?.uid, moved?.generation], [uid, 2]);
    const deleted = await mesh.change(store, AUTHORIZATION_POLICY, () => rmSync(join(mesh.directory, "z.yaml")));
    assert.deepEqual(deleted.calls, ["gone p AUDIT"]);
  });

  test("the second of two declarations is an error that names both places, whichever was there first", async () => {
    await using mesh = makeMesh();
    mesh.write("m.yaml", policy("p", "DENY"));
    await using store = await mesh.open();
    mesh.write("a.yaml", `${policy("q", "DENY")}---\n${policy("p", "ALLOW")}`);
    const dup = mesh.follow(store);
    await until("the problem", () => store.problems.length > 0);
    assert.deepEqual(store.problems.map(formatProblem), [
      "a.yaml:8: AuthorizationPolicy p is declared at m.yaml:1 already",
    ]);
    assert.deepEqual(
      (await store.list(AUTHORIZATION_POLICY)).map(({ metadata }) => metadata.name),
      ["p"],
    );
    rmSync(join(mesh.directory, "m.yaml"));
    await until("the other file to count", () => store.problems.length === 0);
    assert.deepEqual((await store.get(AUTHORIZATION_POLICY, P))?.spec, { action: "ALLOW" });
    dup.close();
    mesh.write("b.yaml", `${policy("x", "DENY")}---\n${policy("x", "DENY")}`);
    await using fresh = await mesh.open();
    assert.match(fresh.problems.map(formatProblem).join(), /b.yaml:8: AuthorizationPolicy x is declared at b.yaml:1/);
  });

  test("a namespace that is in use stays, with an error where it is used", async () => {
    await using mesh = makeMesh();
    mesh.write("ns.yaml", namespaceYaml("shop"));
    mesh.write("p.yaml", policy("p", "DENY", "shop"));
    await using store = await mesh.open();
    using _ = mesh.follow(store);
    rmSync(join(mesh.directory, "ns.yaml"));
    await until("the problem", () => store.problems.length > 0);
    assert.match(store.problems.map(formatProblem).join(), /^p.yaml:5: .*namespace shop is not declared/);
    assert.notEqual(await store.get(NAMESPACE, { name: "shop" }), undefined);
    rmSync(join(mesh.directory, "p.yaml"));
    await until("both to go", async () => (await store.get(NAMESPACE, { name: "shop" })) === undefined);
    assert.deepEqual([store.problems, await store.list(AUTHORIZATION_POLICY)], [[], []]);
  });

  test("what Tulle wrote stays through the user's edits; what the user removes goes", async () => {
    await using mesh = makeMesh();
    const yaml = (labels: string) =>
      `apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: ${labels}}\nspec: {ports: [{port: 80}]}\n`;
    mesh.write("s.yaml", yaml("{a: '1', b: '1'}"));
    await using store = await mesh.open();
    const ref = { namespace: "default", name: "s" };
    await store.patch(SERVICE, ref, {
      type: "merge",
      body: { metadata: { annotations: { "t/x": "y" }, labels: { b: "2" } }, spec: { clusterIP: "10.96.0.7" } },
    });
    await store.patch(
      SERVICE,
      ref,
      { type: "merge", body: { status: { loadBalancer: {} } } },
      { subresource: "status" },
    );
    const before = await store.get(SERVICE, ref);
    assert.deepEqual(before?.metadata.labels, { a: "1", b: "2" }, "the last writer wins");
    await mesh.change(store, SERVICE, () => mesh.write("s.yaml", yaml("{c: '3'}")));
    const after = await store.get(SERVICE, ref);
    assert.deepEqual(after?.metadata.labels, { c: "3" });
    assert.deepEqual([after?.metadata.annotations, after?.spec?.clusterIP], [{ "t/x": "y" }, "10.96.0.7"]);
    assert.deepEqual([after?.status, after?.metadata.uid], [{ loadBalancer: {} }, before?.metadata.uid]);
    assert.deepEqual(readdirSync(mesh.directory), ["s.yaml"], "nothing is written there");
  });

  test("the user's objects are deleted in the user's files only", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    await using store = await mesh.open();
    await assert.rejects(store.delete(AUTHORIZATION_POLICY, P), { code: "FORBIDDEN", message: /declared at a.yaml:1/ });
  });

  test("what cannot be an object is refused with file and line", async () => {
    const cases: readonly (readonly [text: string, problem: RegExp])[] = [
      ["just text", /^x.yaml:1: must be a Kubernetes object/],
      ["kind: Pod\nmetadata: {name: p}", /^x.yaml:1: must have an apiVersion/],
      ["apiVersion: v1\nkind: Pod\nmetadata:\n  name: ../../etc", /^x.yaml:4: Pod: metadata.name must be a name/],
      [
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n    a: true",
        /^x.yaml:6: .*value of a must be in quotes/,
      ],
      ["apiVersion: v1\nkind: Namespace\nmetadata: {name: n, namespace: m}", /^x.yaml:3: .*lives in no namespace/],
      ["apiVersion: apps/v2\nkind: Deployment\nmetadata: {name: d}", /^x.yaml:1: .*not served as apps\/v2, but as v1/],
      ["apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  __proto__: {a: b}", /^x.yaml:5: __proto__/],
      ["a: &a [x]\nb: *c", /^x.yaml:1: Unresolved alias/],
      [`a: 1\n${"#".repeat(1024 * 1024)}`, /^x.yaml:1: is larger than/],
    ];
    for (const [text, problem] of cases) {
      await using mesh = makeMesh();
      mesh.write("x.yaml", text);
      await using store = await mesh.open();
      assert.match(store.problems.map(formatProblem).join(), problem);
    }
    assert.equal(({} as { a?: string }).a, undefined);
  });

  test("kinds that nobody knows are kept and told once; the local mesh's own file is not an object", async () => {
    await using mesh = makeMesh();
    mesh.write("w.yaml", "apiVersion: x.dev/v1\nkind: Widget\nmetadata: {name: w}\n");
    mesh.write("v.yaml", "apiVersion: x.dev/v1\nkind: Widget\nmetadata: {name: v}\n");
    mesh.write("images.yaml", "shop: ./shop\n");
    const told: string[] = [];
    const log: Log = { ...silentLog, info: (message) => void told.push(message) };
    await using store = await mesh.open({ log });
    const kind: ResourceKind = { group: "x.dev", version: "v1", kind: "Widget", plural: "widgets", namespaced: false };
    assert.deepEqual(
      (await store.list(kind)).map(({ metadata }) => metadata.name),
      ["v", "w"],
    );
    assert.equal(told.length, 1);
    assert.deepEqual(store.problems, []);
  });

  test("a file in the middle of being written changes nothing yet", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    await using store = await mesh.open();
    using seen = mesh.follow(store);
    await seen.synced;
    const text = policy("p", "AUDIT");
    for (let length = 0; length < text.length; length += 8) {
      mesh.write("a.yaml", text.slice(0, length));
      await sleep(2);
    }
    mesh.write("a.yaml", text);
    await until("the end", () => seen.calls.length > 0);
    await sleep(100);
    assert.deepEqual(seen.calls, ["put p AUDIT"]);
    assert.deepEqual(store.problems, []);
  });

  test("a directory that is missing, or replaced by another, is followed when it is there", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    await using store = await mesh.open();
    using seen = mesh.follow(store);
    await seen.synced;
    renameSync(mesh.directory, `${mesh.directory}-away`);
    await until("the problem", () => store.problems.length > 0);
    assert.match(store.problems[0]?.message ?? "", /what it said last stays/);
    mkdirSync(mesh.directory);
    mesh.write("a.yaml", policy("p", "AUDIT"));
    await until("the new one", () => seen.calls.length > 0);
    assert.deepEqual(seen.calls, ["put p AUDIT"]);
  });
});

describe("the state folder", () => {
  test("is private, and keeps what was made over restarts", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    const made = await (async () => {
      await using store = await mesh.open();
      const metadata = { namespace: "default", name: "web-1", uid: "11111111-2222-3333-4444-555555555555" };
      await store.create(POD, { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "n1" } });
      const ref = { namespace: "default", name: "web-1" };
      const status = { type: "merge", body: { status: { podIP: "10.0.0.1" } } } as const;
      return [await store.patch(POD, ref, status, { subresource: "status" }), await store.get(AUTHORIZATION_POLICY, P)];
    })();
    assert.equal(made[0]?.metadata.uid, "11111111-2222-3333-4444-555555555555");
    for (const folder of ["", "objects", "locks", "tmp"]) {
      assert.equal(statSync(join(mesh.state, folder)).mode & 0o777, 0o700);
    }
    assert.ok(existsSync(join(mesh.state, "objects", "Pod.core~default~web-1.json")));
    await using store = await mesh.open();
    const kept = [
      await store.get(POD, { namespace: "default", name: "web-1" }),
      await store.get(AUTHORIZATION_POLICY, P),
    ];
    assert.deepEqual(kept, made);
  });

  test("a state file that is damaged counts as absent, and the user's object comes back", async () => {
    await using mesh = makeMesh();
    mesh.write("a.yaml", policy("p", "DENY"));
    await (await mesh.open())[Symbol.asyncDispose]();
    writeFileSync(join(mesh.state, "objects", "AuthorizationPolicy.security.istio.io~default~p.json"), "");
    await using store = await mesh.open();
    assert.deepEqual((await store.get(AUTHORIZATION_POLICY, P))?.spec, { action: "DENY" });
  });

  test("names that are too long for a file, or would leave the folder, have one of their own", async () => {
    await using mesh = makeMesh();
    await using store = await mesh.open();
    const names = ["a".repeat(253), `${"a".repeat(252)}b`, "x..y", "%2e%2e%2f"];
    for (const name of names) {
      await store.create(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace: "default", name } });
    }
    const listed = await store.list(CONFIG_MAP, { namespace: "default" });
    assert.deepEqual(new Set(listed.map(({ metadata }) => metadata.name)), new Set(names));
    const outside = { namespace: "default", name: "../../../outside" };
    await store.create(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata: outside });
    assert.ok(!existsSync(join(mesh.state, "..", "outside.json")));
  });

  test("what cannot be kept is refused", async () => {
    await using mesh = makeMesh();
    await using store = await mesh.open();
    const metadata = { name: "" };
    await assert.rejects(
      store.create(TOKEN_REVIEW, { apiVersion: "v1", kind: "TokenReview", metadata, spec: { token: "x" } }),
      { code: "INVALID", message: /reviews/ },
    );
    const big = { namespace: "default", name: "big" };
    const data = { a: "x".repeat(2 * 1024 * 1024) };
    await assert.rejects(store.create(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata: big, data }), {
      code: "INVALID",
      message: /larger/,
    });
    const evil = JSON.parse('{"metadata":{"labels":{"__proto__":"x"}}}') as Record<string, unknown>;
    await store.create(CONFIG_MAP, { apiVersion: "v1", kind: "ConfigMap", metadata: { ...big, name: "e" } });
    await store
      .patch(CONFIG_MAP, { namespace: "default", name: "e" }, { type: "merge", body: evil })
      .catch(() => undefined);
    assert.equal(({} as { x?: unknown }).x, undefined);
    const blocked = join(mesh.state, "objects", "x");
    writeFileSync(blocked, "");
    await assert.rejects(DirectoryStore.open({ directory: undefined, state: blocked, component: "x" }), {
      code: "INVALID",
      message: /cannot use the state folder/,
    });
  });
});

interface Mesh extends AsyncDisposable {
  readonly directory: string;
  readonly state: string;
  write(file: string, text: string): void;
  open(options?: Partial<DirectoryStoreOptions>): Promise<DirectoryStore>;
  follow(
    store: DirectoryStore,
    kind?: ResourceKind,
  ): Disposable & {
    readonly calls: string[];
    readonly synced: Promise<void>;
    close(): void;
  };
  /** What a watch is told because of `act`: at least one call. */
  change(store: DirectoryStore, kind: ResourceKind, act: () => void): Promise<{ readonly calls: readonly string[] }>;
}

function makeMesh(): Mesh {
  const root = mkdtempSync(join(tmpdir(), "tulle-directory-"));
  const [directory, state] = [join(root, "user"), join(root, "state")];
  mkdirSync(directory);
  const follow: Mesh["follow"] = (store, kind = AUTHORIZATION_POLICY) => {
    const calls: string[] = [];
    const tell = (what: string) => (object: { metadata: { name: string }; spec?: unknown }) => {
      const { action = "" } = (object.spec ?? {}) as { action?: string };
      calls.push(`${what} ${object.metadata.name} ${action}`.trim());
    };
    const watch = store.watch(kind, { put: tell("put"), gone: tell("gone") });
    const synced = watch.whenSynced().then(() => void (calls.length = 0));
    synced.catch(() => undefined);
    return { calls, synced, close: () => watch.close(), [Symbol.dispose]: () => watch.close() };
  };
  return {
    directory,
    state,
    follow,
    write: (file, text) => writeFileSync(join(directory, file), text),
    open: (options = {}) =>
      DirectoryStore.open({ directory, state, component: "tulle-test", onProblems() {}, ...options }),
    change: async (store, kind, act) => {
      using seen = follow(store, kind);
      await seen.synced;
      act();
      await until("a change", () => seen.calls.length > 0);
      // Long enough for a second, unwanted one.
      await sleep(100);
      return { calls: seen.calls };
    },
    [Symbol.asyncDispose]: async () => rmSync(root, { recursive: true, force: true }),
  };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited 10 s for: ${what}`);
    await sleep(5);
  }
}
