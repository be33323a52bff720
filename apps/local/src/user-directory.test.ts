import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "@tulle/lab";
import { NAMESPACE, SERVICE_ACCOUNT } from "@tulle/store";
import { UserFolder } from "../test/user-folder.ts";

const namespace = (name: string) => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`;
const account = (name: string, where: string) =>
  `apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: ${name}, namespace: ${where}}\n`;
const web = (image: string, serviceAccount = "default") => `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: ${serviceAccount}
      containers: [{name: web, image: ${image}}]
`;

async function names({ user }: UserFolder): Promise<string[]> {
  const [namespaces, accounts] = [await user.store.list(NAMESPACE), await user.store.list(SERVICE_ACCOUNT)];
  const always = ["default", "istio-system", "kube-system"];
  return [...namespaces, ...accounts].map(({ metadata }) => metadata.name).filter((name) => !always.includes(name));
}

test("all YAML files of the directory count, images.yaml, hidden files and folders apart", async () => {
  await using folder = await UserFolder.open({
    "a.yaml": namespace("a"),
    "b.yml": account("b", "a"),
    "images.yaml": "images: {web: [node, web.ts]}\n",
    "local/images.yaml": "images: {shop: [node, shop.ts]}\n",
    "local/other.yaml": namespace("other"),
    ".hidden.yaml": namespace("hidden"),
    "notes.txt": "not YAML",
  });
  assert.deepEqual(folder.problems, []);
  assert.deepEqual(await names(folder), ["a", "b"]);
  assert.deepEqual(
    [...folder.user.images],
    [
      ["web", ["node", "web.ts"]],
      ["shop", ["node", "shop.ts"]],
    ],
  );
  assert.equal(folder.looks[0]?.declared, 2);
});

test("a bad file keeps its last good content and never hides the others", async () => {
  await using folder = await UserFolder.open({ "a.yaml": namespace("a"), "b.yaml": namespace("b") });
  folder.write("a.yaml", "kind: [");
  folder.write("b.yaml", `${namespace("b")}---\n${namespace("c")}`);
  await folder.reopen();
  assert.deepEqual(await names(folder), ["a", "b", "c"]);
  assert.equal(folder.problems.length, 1);
  assert.match(folder.problems[0] ?? "", /^a\.yaml:1: /);
  folder.write("a.yaml", namespace("d"));
  await folder.reopen();
  assert.deepEqual(await names(folder), ["b", "c", "d"]);
});

const together: readonly (readonly [what: string, files: Record<string, string>, expected: RegExp])[] = [
  [
    "an undeclared namespace",
    { "a.yaml": `---\n${account("a", "nowhere")}` },
    /^a\.yaml:4: ServiceAccount a: namespace nowhere is not declared/,
  ],
  [
    "the same object twice",
    { "a.yaml": namespace("a"), "b.yaml": `${namespace("b")}---\n${namespace("a")}` },
    /^b\.yaml:5: Namespace a is declared at a\.yaml:1 already/,
  ],
  [
    "an undeclared service account",
    { "a.yaml": web("web", "web"), "images.yaml": "images: {web: [x]}" },
    /^a\.yaml:1: .*service account default\/web is not declared/,
  ],
  [
    "an image that images.yaml does not know",
    { "a.yaml": web("web") },
    /image web of container web is not in images\.yaml/,
  ],
  ["the mesh's own namespace", { "a.yaml": namespace("tulle-ingress") }, /reserved for the mesh itself/],
  ["an account among the mesh's own", { "a.yaml": account("ztunnel", "istio-system") }, /reserved for the mesh itself/],
  [
    "a selector that its own pods do not match",
    {
      "a.yaml": web("web").replace("matchLabels: {app: web}", "matchLabels: {app: other}"),
      "images.yaml": "images: {web: [x]}",
    },
    /spec\.selector asks for app=other/,
  ],
  [
    "a mistake in images.yaml",
    { "images.yaml": "images:\n  web: node\n" },
    /^images\.yaml:2: images\.web must be a list/,
  ],
];

for (const [what, files, expected] of together) {
  test(`${what} is an error`, async () => {
    await using folder = await UserFolder.open(files);
    const { problems } = folder;
    assert.ok(
      problems.some((problem) => expected.test(problem)),
      problems.join("\n"),
    );
  });
}

test("a policy for the whole mesh may be declared in its root namespace", async () => {
  const text =
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}\n";
  await using folder = await UserFolder.open({ "a.yaml": text });
  assert.deepEqual(folder.problems, []);
});

test("a file that comes to contradict the others goes back to what it was", async () => {
  await using folder = await UserFolder.open({ "a.yaml": namespace("a"), "b.yaml": account("b", "a") });
  folder.write("b.yaml", account("b", "elsewhere"));
  await folder.reopen();
  assert.deepEqual(await names(folder), ["a", "b"]);
  assert.match(folder.problems.join(), /^b\.yaml:3: .*namespace elsewhere is not declared/);
});

test("a change is noticed, and so is a fault in images.yaml", async () => {
  await using folder = await UserFolder.open({ "a.yaml": namespace("a"), "images.yaml": "images: {}\n" });
  const watch = folder.user.store.watch(NAMESPACE, { put: () => {}, gone: () => {} });
  using _ = watch;
  folder.write("a.yaml", namespace("b"));
  await until(() => watch.get({ name: "b" }) !== undefined, { what: "the change" });
  folder.write("images.yaml", "images: none\n");
  await until(() => folder.problems.join().startsWith("images.yaml:1: images must be a map"), { what: "the fault" });
});
