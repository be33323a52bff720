import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { cgroupIdOf, findKubelet, type KubeletSources } from "./kubelet.ts";

let sources: KubeletSources;
let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "tulle-kubelet-"));
  sources = { proc: join(root, "proc"), cgroups: join(root, "cgroup") };
  mkdirSync(sources.proc);
  mkdirSync(sources.cgroups);
});
afterEach(() => rmSync(root, { recursive: true }));

function process(pid: number, comm: string, uid: number, cgroup: string): void {
  const folder = join(sources.proc, String(pid));
  mkdirSync(folder);
  writeFileSync(join(folder, "comm"), `${comm}\n`);
  writeFileSync(join(folder, "status"), `Name:\t${comm}\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n`);
  writeFileSync(join(folder, "cgroup"), cgroup);
}

function group(path: string): void {
  writeFileSync(join(sources.cgroups, "cgroup.controllers"), "");
  mkdirSync(join(sources.cgroups, path), { recursive: true });
}

test("the kubelet is found with its user and its control group, from a container's view of it too", () => {
  process(7, "sh", 0, "0::/\n");
  process(42, "kubelet", 0, "0::/../../../system.slice/kubelet.service\n");
  group("system.slice/kubelet.service");
  const { ino } = statSync(join(sources.cgroups, "system.slice/kubelet.service"));
  assert.deepEqual(findKubelet(sources), { uid: 0, cgroup: "system.slice/kubelet.service", cgroupId: ino });
  rmSync(join(sources.cgroups, "system.slice/kubelet.service"), { recursive: true });
  assert.equal(cgroupIdOf("system.slice/kubelet.service", sources), undefined, "a kubelet that was started anew");
});

test("a control group that nft could not use narrows nothing", () => {
  process(42, "kubelet", 990, "4:cpu:/kubelet\n0::/\n");
  assert.deepEqual(findKubelet(sources), { uid: 990, cgroup: undefined, cgroupId: undefined });
});

for (const [what, path] of [
  ["with an escaped letter in its name", "system.slice/k3s\\x2dserver.service"],
  ["far down", Array.from({ length: 40 }, () => "a").join("/")],
] as const) {
  test(`a control group ${what}, which no rule can name, narrows nothing`, () => {
    process(42, "kubelet", 0, `0::/${path}\n`);
    group(path);
    assert.deepEqual(findKubelet(sources), { uid: 0, cgroup: undefined, cgroupId: undefined });
  });
}

test("a control group that cannot be seen from here narrows nothing", () => {
  process(42, "k3s-server", 0, "0::/system.slice/k3s.service\n");
  group("other");
  assert.equal(findKubelet(sources)?.cgroup, undefined);
  // A folder of version 1 with the same name.
  rmSync(join(sources.cgroups, "cgroup.controllers"));
  mkdirSync(join(sources.cgroups, "system.slice/k3s.service"), { recursive: true });
  assert.equal(findKubelet(sources)?.cgroup, undefined);
});

test("without a kubelet there is none", () => {
  process(7, "kubelet-proxy", 0, "0::/x\n");
  assert.equal(findKubelet(sources), undefined);
});
