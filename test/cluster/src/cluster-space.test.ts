import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { run, until } from "@tulle/lab";
import { withLock } from "./cluster-folder.ts";
import { ClusterSpace } from "./cluster-space.ts";
import { removeAbandoned } from "./clusters.ts";

/** Clusters without Kubernetes: namespaces, and what lives and dies with them. */

const OWNER = join(import.meta.dirname, "..", "fixtures", "owner.ts");
const CGROUPS = "/sys/fs/cgroup";
let root: string;

before(() => {
  root = mkdtempSync(join(tmpdir(), "tulle-clusters-"));
  process.env.TULLE_CLUSTER_ROOT = root;
});

after(() => {
  rmSync(root, { recursive: true, force: true });
});

function newFolder(name: string): string {
  const folder = join(root, name);
  for (const part of ["data", "log", "pids"]) mkdirSync(join(folder, part), { recursive: true });
  return folder;
}

test("a cluster sees no network but its own, and its processes end with it", async () => {
  const space = new ClusterSpace(newFolder("alone"));
  assert.throws(() => space.initPid, /npm run cluster -- up/);
  await space.create({ owned: false });
  try {
    assert.deepEqual(
      JSON.parse(await space.run(["ip", "-j", "link"])).map(({ ifname }: { ifname: string }) => ifname),
      ["lo"],
    );
    assert.equal((await space.run(["ls", "/run"])).trim(), "lock\nnetns");
    await space.start("daemon", ["sleep", "300"]);
    assert.ok(space.running("daemon"));
    assert.equal((await space.run(["ps", "-o", "comm=", "-p", String(space.daemonPid("daemon"))])).trim(), "sleep");
    await space.stop("daemon");
    assert.ok(!space.running("daemon"));
    await space.start("daemon", ["sleep", "300"]);
  } finally {
    const init = space.initPid;
    await space.destroy();
    assert.ok(!existsSync(`/proc/${init}`) || /\) Z /.test(readFileSync(`/proc/${init}/stat`, "utf8")));
  }
  assert.ok(!space.alive && !space.running("daemon"));
});

test("a cluster that is owned ends with its owner, however that ends, and leaves what the next one removes", async () => {
  const folder = join(root, "owned");
  const owner = spawn(process.execPath, [OWNER, folder], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => owner.stdout.once("data", resolve));
  const space = new ClusterSpace(folder);
  assert.ok(space.running("daemon"));
  assert.deepEqual(await removeAbandoned(), [], "its owner lives");
  // As a node of it would leave it behind.
  const [hierarchy = ""] = existsSync(join(CGROUPS, "cgroup.procs")) ? [""] : readdirSync(CGROUPS);
  const cgroup = join(CGROUPS, hierarchy, "tulle-cluster-owned-n1", "kubepods");
  mkdirSync(cgroup, { recursive: true });
  owner.kill("SIGKILL");
  await until(() => !space.alive, { what: "the cluster to end" });
  assert.deepEqual(await removeAbandoned(), ["owned"]);
  assert.ok(!existsSync(folder));
  assert.ok(!existsSync(join(cgroup, "..")));
});

test("what a stranger's process has recorded is not taken for the cluster's", async () => {
  const folder = newFolder("reused");
  // A process of that number runs, but began at another time.
  writeFileSync(join(folder, "pids", "init"), `${process.pid} 1`);
  const space = new ClusterSpace(folder);
  assert.ok(!space.alive);
  await space.destroy();
});

test("only one process at a time works on a cluster, and a dead one's lock is void", async () => {
  const folder = join(root, "locked");
  await withLock(folder, async () => {
    await assert.rejects(
      withLock(folder, async () => {}),
      /works on this cluster/,
    );
  });
  writeFileSync(`${folder}.lock`, `${process.pid} 1`);
  assert.equal(await withLock(folder, async () => "done"), "done");
  assert.ok(!existsSync(`${folder}.lock`));
});

test("commands tell why they failed, and processes that cannot start are no success", async () => {
  const space = new ClusterSpace(newFolder("failing"));
  await space.create({ owned: false });
  try {
    await assert.rejects(space.run(["sh", "-c", "echo because >&2; exit 3"]), /exit code 3: because/);
    await space.start("absent", ["/no/such/program"]);
    await until(() => !space.running("absent"), { what: "it to end" });
    assert.match(readFileSync(join(space.folder, "log", "absent.log"), "utf8"), /No such file/);
    assert.match(await run("ls", [join(space.folder, "pids")]), /absent/);
  } finally {
    await space.destroy();
  }
});
