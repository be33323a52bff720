import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { run, until } from "@tulle/lab";
import { LocalMesh, meshName, PORT_OFFSET, traces, Workspace } from "./local-mesh.ts";

/** Coming up, refusing to, and going away without a trace. */

const PROBER = fileURLToPath(new URL("fixtures/prober", import.meta.url));
const [CRASH, ORPHAN, REFUSED, SILENT] = [meshName("c"), meshName("o"), meshName("r"), meshName("s")];
const LOCAL_MAIN = fileURLToPath(new URL("../../apps/local/src/main.ts", import.meta.url));

test("a crash ends every process at once, and the next start removes the rest", async () => {
  const first = await LocalMesh.start(PROBER, { name: CRASH });
  const crashed = first.ownerPid;
  await first.crash();
  const processes = () => traces(CRASH, crashed).filter((trace) => trace.startsWith("process"));
  await until(() => processes().length === 0, { what: "the mesh's processes to end" });
  assert.ok(traces(CRASH, crashed).length > 0, "namespaces cannot go by themselves");

  await using second = await LocalMesh.start(PROBER, { name: CRASH });
  assert.deepEqual(
    traces(CRASH, crashed).filter((trace) => trace.startsWith("tulle-lab-")),
    [],
  );

  // A second one beside it is refused and does not disturb it.
  const { code, output } = await LocalMesh.fails(PROBER, { name: CRASH });
  assert.equal(code, 1);
  assert.match(output, new RegExp(`a local mesh of this name runs already \\(process ${second.ownerPid}\\): end it`));
  assert.equal((await fetch(second.url(8080, "/ready"))).status, 200);

  // Ctrl-C leaves no namespace, link, process or file.
  const owner = second.ownerPid;
  assert.ok(traces(CRASH, owner).length > 3);
  assert.equal(await second.stop("SIGINT"), 0);
  assert.deepEqual(traces(CRASH, owner), []);
});

test("when the command line dies, the mesh ends itself", async () => {
  const mesh = await LocalMesh.start(PROBER, { name: ORPHAN });
  const owner = mesh.ownerPid;
  await mesh.stop("SIGKILL");
  await until(() => traces(ORPHAN, owner).length === 0, { what: "the orphan to tidy up", timeoutMs: 20_000 });
});

test("a port that is in use is told before anything starts", async () => {
  const server = createServer().listen(8080 + PORT_OFFSET, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  try {
    const { code, output } = await LocalMesh.fails(PROBER, { name: REFUSED });
    assert.equal(code, 1);
    const port = `port ${8080 + PORT_OFFSET} of this machine`;
    assert.match(output, new RegExp(`cannot serve probers/prober on ${port}: another program uses it`));
  } finally {
    server.close();
  }
});

const wrong: readonly (readonly [what: string, files: Record<string, string>, expected: RegExp])[] = [
  ["an empty directory", {}, /holds no Kubernetes YAML/],
  [
    "a fault in the YAML",
    { "a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata:\n  nam: a\n" },
    /a\.yaml:4: Namespace: metadata\.nam is not supported/,
  ],
  ["an unknown kind", { "a.yaml": "apiVersion: v1\nkind: Secret\n" }, /a\.yaml:2: kind "Secret" is not supported/],
  [
    "faults in two files",
    { "a.yaml": "kind: Pod\n", "b.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: b}\n" },
    /2 problems.*a\.yaml:1.*b\.yaml:3: ServiceAccount a: namespace b is not declared/s,
  ],
];

for (const [what, files, expected] of wrong) {
  test(`${what} is told with file and line, and nothing is started`, async () => {
    using workspace = Workspace.of(files);
    const { code, output } = await LocalMesh.fails(workspace.path, { name: REFUSED });
    assert.equal(code, 1);
    assert.match(output, expected);
  });
}

test("a directory that pods cannot read is told", async () => {
  using workspace = Workspace.of({ "a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n" });
  chmodSync(workspace.path, 0o700);
  const { code, output } = await LocalMesh.fails(workspace.path, { name: REFUSED });
  assert.equal(code, 1);
  assert.match(output, /pods run as users of their own and cannot read \S+: chmod o\+rx/);
});

test("without root it says so in one line", () => {
  const { status, stderr } = spawnSync("setpriv", ["--reuid", "65534", process.execPath, LOCAL_MAIN, "/tmp"], {
    encoding: "utf8",
  });
  // Who may not even read the program has to be told by Node.
  if (/EACCES|Cannot find module/.test(stderr)) return;
  assert.equal(status, 1);
  assert.match(stderr, /the local mesh needs root, because it makes network namespaces: run it with sudo/);
});

test("a pod that never becomes ready is named with its reason", async () => {
  using workspace = Workspace.of({
    "a.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: silent}
spec:
  selector: {matchLabels: {app: silent}}
  template:
    metadata: {labels: {app: silent}}
    spec:
      containers:
      - {name: silent, command: [sleep, infinity], readinessProbe: {tcpSocket: {port: 80}}}
`,
  });
  const { code, output } = await LocalMesh.fails(workspace.path, { name: SILENT, readySeconds: 10 });
  assert.equal(code, 1);
  assert.match(output, /default\/silent-\S+: silent: .*ECONNREFUSED/);
  assert.deepEqual((await run("ip", ["-br", "link"])).includes(`tulle-${SILENT}`), false);
});
