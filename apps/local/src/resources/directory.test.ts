import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { ResourceDirectory } from "./directory.ts";
import { describe } from "./kinds.ts";
import { formatProblem } from "./read-file.ts";

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

function setUp(t: TestContext, files: Readonly<Record<string, string>>) {
  const path = mkdtempSync(join(tmpdir(), "tulle-directory-"));
  t.after(() => rmSync(path, { recursive: true }));
  const write = (name: string, text: string) => {
    writeFileSync(join(path, `.${name}.new`), text);
    renameSync(join(path, `.${name}.new`), join(path, name));
  };
  for (const [name, text] of Object.entries(files)) write(name, text);
  const directory = new ResourceDirectory(path);
  const read = () => {
    const { set, problems } = directory.read();
    return { names: set.resources.map(describe), problems: problems.map(formatProblem), set };
  };
  return { directory, write, read, remove: (name: string) => rmSync(join(path, name)) };
}

test("all YAML files of the directory count, images.yaml and hidden files apart", (t) => {
  const { read } = setUp(t, {
    "a.yaml": namespace("a"),
    "b.yml": account("b", "a"),
    "images.yaml": "images: {web: [node, web.ts]}\n",
    ".hidden.yaml": namespace("hidden"),
    "notes.txt": "not YAML",
  });
  assert.deepEqual(read().names, ["Namespace a", "ServiceAccount a/b"]);
  assert.deepEqual([...read().set.images], [["web", ["node", "web.ts"]]]);
});

test("a bad file keeps its last good content and never hides the others", (t) => {
  const { read, write } = setUp(t, { "a.yaml": namespace("a"), "b.yaml": namespace("b") });
  read();
  write("a.yaml", "kind: [");
  write("b.yaml", `${namespace("b")}---\n${namespace("c")}`);
  const { names, problems } = read();
  assert.deepEqual(names, ["Namespace a", "Namespace b", "Namespace c"]);
  assert.equal(problems.length, 1);
  assert.match(problems[0] ?? "", /^a\.yaml:1: /);
  write("a.yaml", namespace("d"));
  assert.deepEqual(read().names, ["Namespace d", "Namespace b", "Namespace c"]);
});

test("a file that is deleted takes its resources with it", (t) => {
  const { read, remove } = setUp(t, { "a.yaml": namespace("a"), "b.yaml": namespace("b") });
  read();
  remove("a.yaml");
  assert.deepEqual(read().names, ["Namespace b"]);
});

const together: readonly (readonly [what: string, files: Record<string, string>, expected: RegExp])[] = [
  [
    "an undeclared namespace",
    { "a.yaml": `---\n${account("a", "nowhere")}` },
    /^a\.yaml:2: ServiceAccount nowhere\/a: namespace nowhere is not declared/,
  ],
  [
    "the same object twice",
    { "a.yaml": namespace("a"), "b.yaml": `${namespace("b")}---\n${namespace("a")}` },
    /^b\.yaml:5: Namespace a is already declared in a\.yaml:1/,
  ],
  [
    "an undeclared service account",
    { "a.yaml": web("web", "web"), "images.yaml": "images: {web: [x]}" },
    /service account default\/web is not declared/,
  ],
  [
    "an image that images.yaml does not know",
    { "a.yaml": web("web") },
    /image web of container web is not in images\.yaml/,
  ],
  ["the mesh's own namespace", { "a.yaml": namespace("tulle-ingress") }, /reserved for the mesh itself/],
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
  test(`${what} is an error`, (t) => {
    const { problems } = setUp(t, files).read();
    assert.ok(
      problems.some((problem) => expected.test(problem)),
      problems.join("\n"),
    );
  });
}

test("a file that comes to contradict the others goes back to what it was", (t) => {
  const { read, write } = setUp(t, { "a.yaml": namespace("a"), "b.yaml": account("b", "a") });
  read();
  write("b.yaml", account("b", "elsewhere"));
  const { names, problems } = read();
  assert.deepEqual(names, ["Namespace a", "ServiceAccount a/b"]);
  assert.match(problems.join(), /namespace elsewhere is not declared/);
});

test("what loses its namespace is left out, the rest stays", (t) => {
  const { read, remove } = setUp(t, {
    "a.yaml": namespace("a"),
    "b.yaml": account("b", "a"),
    "c.yaml": namespace("c"),
  });
  read();
  remove("a.yaml");
  assert.deepEqual(read().names, ["Namespace c"]);
});

test("a change is noticed", async (t) => {
  const { directory, read, write } = setUp(t, { "a.yaml": namespace("a") });
  read();
  const end = new AbortController();
  t.after(() => end.abort());
  const changed = Promise.withResolvers<string[]>();
  directory.watch(
    ({ set }) => changed.resolve(set.resources.map(describe)),
    (message) => changed.reject(new Error(message)),
    end.signal,
  );
  write("a.yaml", namespace("b"));
  assert.deepEqual(await changed.promise, ["Namespace b"]);
});
