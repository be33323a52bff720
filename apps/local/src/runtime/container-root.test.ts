import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { nodeForPods, writeEtc } from "./container-root.ts";

const cases: readonly (readonly [execPath: string, binary: string, path: RegExp])[] = [
  ["/usr/bin/node", "", /^\/usr\/bin:/],
  ["/usr/local/bin/node", "", /^\/usr\/local\/bin:/],
  ["/home/me/.nvm/versions/node/v26/bin/node", "/home/me/.nvm/versions/node/v26/bin/node", /^\/opt\/node:/],
];

for (const [execPath, binary, path] of cases) {
  test(`a pod finds the Node of ${execPath}`, () => {
    const node = nodeForPods(execPath);
    assert.equal(node.binary, binary);
    assert.match(node.path, path);
  });
}

test("a pod's files name the cluster's resolver and the pod, and know no user but the pod's", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tulle-etc-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeEtc(folder, {
    podName: "web-1",
    namespace: "shop",
    address: { v4: "10.201.1.10", v6: "fd00::a" },
    nameserver: "10.201.0.1",
    clusterDomain: "cluster.local",
    uid: 1_900_000_007,
  });
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  assert.equal(
    read("resolv.conf"),
    "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.201.0.1\noptions ndots:5\n",
  );
  assert.match(read("hosts"), /^127\.0\.0\.1 localhost\n(.*\n)*10\.201\.1\.10 web-1\nfd00::a web-1\n$/);
  assert.equal(read("passwd").trim().split("\n").length, 2);
});
