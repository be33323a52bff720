import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { assertGolden } from "../test/golden.ts";

/** The program as it is started: arguments, standard input, files, exit code, and what it says at the end of an error. */

const MAIN = join(import.meta.dirname, "main.js");
const folder = mkdtempSync(join(tmpdir(), "tulle-cli-"));
const TIMEOUT_MS = 60_000;

after(() => rmSync(folder, { recursive: true, force: true }));

function start(args: readonly string[], options: { input?: string; env?: Readonly<Record<string, string>> } = {}) {
  const { PATH = "" } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    cwd: folder,
    encoding: "utf8",
    input: options.input ?? "",
    timeout: TIMEOUT_MS,
    // Neither the cluster nor the compile cache of whoever runs the tests.
    env: { PATH, HOME: folder, NODE_NO_WARNINGS: "1", ...options.env },
  });
  return { status, stdout, stderr };
}

const DUMP = JSON.stringify({
  workloads: [],
  services: [],
  policies: [{ name: "p", namespace: "n", action: "Deny", scope: "Global" }],
});

const USERS_OWN: readonly (readonly [args: readonly string[], problem: RegExp])[] = [
  [["zc", "workload", "-f", "/none.json"], /^error: cannot read \/none\.json: there is no such file\n {2}next: give /],
  [["install", "-f", "/none.yaml", "--dry-run"], /^error: cannot read \/none\.yaml: there is no such file\n {2}next: /],
  [["zc", "all", "-f", "/"], /^error: cannot read \/: it is a folder\n {2}next: name a file in it/],
  [["manifest", "generate", "-f", `${MAIN}/x`], /a part of its path is a file, not a folder\n {2}next: /],
  [["zc", "all", "-f", MAIN], /^error: \S+main\.js is not JSON\n {2}next: /],
  [["install", "--dry-run"], /^error: there is no kubeconfig at .*\n {2}next: choose a cluster with --kubeconfig FILE/],
  [["status", "--kubeconfig", "/"], /^error: cannot read kubeconfig \/.*\n {2}next: choose a cluster/],
  [
    ["up", "/nodir"],
    /✗ (there is no directory \/nodir\n {2}next: name a directory of Kubernetes YAML|.*run it with sudo)/,
  ],
  [["up", MAIN], /✗ (\S+ is no directory\n {2}next: |.*run it with sudo)/],
  [["down", "--name", "nobody00"], /✗ .*(start one with tulle up|run it with sudo)\n$/],
];

for (const [args, problem] of USERS_OWN) {
  test(`tulle ${args.map((arg) => arg.replace(MAIN, "main.js")).join(" ")} fails with what to do next`, () => {
    const { status, stdout, stderr } = start(args);
    assert.match(stderr, problem);
    assert.doesNotMatch(stderr, /fault of tulle|^ {4}at /m);
    assert.equal(stdout, "");
    assert.equal(status, 1);
  });
}

const NOT_UNDERSTOOD: readonly (readonly [args: readonly string[], problem: RegExp])[] = [
  [["upp"], /No command registered for `upp`, did you mean/],
  [["get"], /Expected argument for kind/],
  [["get", "pods", "--wat"], /No flag registered for --wat/],
  [["status", "-o", "xml"], /Expected "xml" to be one of \(short\|wide\|json\|yaml\)/],
  [["install", "--timeout", "0"], /"0" is not a whole number from 1 to 3600/],
];

for (const [args, problem] of NOT_UNDERSTOOD) {
  test(`tulle ${args.join(" ")} is not understood: exit code 2, and where to look`, () => {
    const { status, stderr } = start(args);
    assert.match(stderr, problem);
    assertGolden(`errors/usage-${args.join("-").replaceAll(/[^a-z0-9]+/g, "-")}.txt`, stderr);
    assert.match(stderr, /\n {2}next: see what there is: tulle --help, or tulle COMMAND --help\n$/);
    assert.equal(status, 2);
  });
}

test("the local mesh does not understand a name that cannot be one: exit code 2, and where to look", () => {
  const { status, stderr } = start(["up", "--name", "Not-One"]);
  assert.match(stderr, /✗ --name Not-One: use 1 to 8 .*\n {2}next: see how it is used: tulle up --help/);
  assert.equal(status, 2);
});

test("a file and standard input are read, and the result is on standard output alone", () => {
  const file = join(folder, "dump.json");
  writeFileSync(file, DUMP);
  const outcomes = [
    start(["zc", "policy", "-f", file]),
    start(["zc", "policy", "-f", "dump.json"]),
    start(["zc", "policy", "-f", "-"], { input: DUMP }),
  ];
  for (const outcome of outcomes) {
    const stdout = "NAMESPACE POLICY NAME ACTION SCOPE\nn         p           Deny   Global\n";
    assert.deepEqual(outcome, { status: 0, stdout, stderr: "" });
  }
});

test("what is compiled is kept in the user's own cache folder, and the next start is the same", () => {
  const caches = join(folder, "caches");
  mkdirSync(caches, { mode: 0o700 });
  const run = (env: Readonly<Record<string, string>>) => start(["version", "--no-remote"], { env });
  const first = run({ XDG_CACHE_HOME: caches });
  assert.deepEqual([first.status, first.stderr], [0, ""]);
  const [version] = readdirSync(join(caches, "tulle", "compile"));
  assert.ok(version !== undefined);
  assert.deepEqual(run({ XDG_CACHE_HOME: caches }), first);

  const chosen = join(folder, "chosen");
  assert.deepEqual(run({ XDG_CACHE_HOME: join(folder, "none"), NODE_COMPILE_CACHE: chosen }), first);
  assert.ok(existsSync(chosen));
  assert.ok(!existsSync(join(folder, "none")));
});

test("a reader that has read enough is no error", () => {
  const script = `"$0" "$1" install --help | true; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = spawnSync("bash", ["-c", script, process.execPath, MAIN], {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
    env: { PATH: process.env["PATH"] ?? "", HOME: folder, NODE_NO_WARNINGS: "1" },
  });
  assert.equal(stderr, "");
  assert.match(stdout, /^(0|141)\n$/);
});

test("what is installed as tulle is this program", () => {
  const installed = join(import.meta.dirname, "../../../node_modules/.bin/tulle");
  const { status, stdout } = spawnSync(installed, ["version", "--no-remote", "-o", "json"], {
    encoding: "utf8",
    timeout: TIMEOUT_MS,
    env: { PATH: `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}`, HOME: folder, NODE_NO_WARNINGS: "1" },
  });
  assert.equal(status, 0);
  assert.equal(stdout, start(["version", "--no-remote", "-o", "json"]).stdout);
});
