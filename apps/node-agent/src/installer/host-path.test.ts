import assert from "node:assert/strict";
import { test } from "node:test";
import { hostPathOf } from "./host-path.ts";

const HOST = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
30 22 8:2 / /opt rw - ext4 /dev/sda2 rw
31 22 8:1 /srv/node/cni-bin /usr/lib/cni rw - ext4 /dev/sda1 rw
32 22 8:1 /with\\040blank /mnt rw - ext4 /dev/sda1 rw`;

function containerMounts(device: string, root: string): string {
  return `90 80 0:70 / / rw - overlay overlay rw\n91 90 ${device} ${root} /host/opt/cni/bin rw - ext4 /dev/x rw`;
}

for (const [what, own, host, expected] of [
  ["a folder of the root file system", containerMounts("8:1", "/home/kubernetes/bin"), HOST, "/home/kubernetes/bin"],
  ["a folder of a file system of its own", containerMounts("8:2", "/cni/bin"), HOST, "/opt/cni/bin"],
  ["a bind mount on the host", containerMounts("8:1", "/srv/node/cni-bin"), HOST, "/usr/lib/cni"],
  ["a name with a blank", containerMounts("8:1", "/with\\040blank/bin"), HOST, "/mnt/bin"],
  ["no such mount", "90 80 0:70 / / rw - overlay overlay rw", HOST, undefined],
  ["a file system that the host does not show", containerMounts("9:9", "/x"), HOST, undefined],
  ["process 1 is one of this container", containerMounts("8:1", "/x"), containerMounts("8:1", "/x"), undefined],
] as const) {
  test(`the host's path: ${what}`, () => {
    const read = (file: string) => (file === "/proc/1/mountinfo" ? host : own);
    assert.equal(hostPathOf("/host/opt/cni/bin", read), expected);
  });
}

test("no list of mounts, no path", () => {
  const read = () => {
    throw new Error("ENOENT");
  };
  assert.equal(hostPathOf("/host/opt/cni/bin", read), undefined);
});
