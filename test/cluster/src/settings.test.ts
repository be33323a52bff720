import assert from "node:assert/strict";
import { test } from "node:test";
import { artifactFolder, COMPONENTS, cacheFolder } from "./artifacts.ts";
import { cgroupName, cgroupPrefix, clusterSettings } from "./settings.ts";

test("name, nodes and folder come from the environment, and from what is given before that", () => {
  assert.deepEqual(clusterSettings({}, {}), { name: "tulle", nodes: 2, folder: "/var/tmp/tulle-cluster/tulle" });
  const environment = { TULLE_CLUSTER_NAME: "a", TULLE_CLUSTER_NODES: "3", TULLE_CLUSTER_ROOT: "/r" };
  assert.deepEqual(clusterSettings({}, environment), { name: "a", nodes: 3, folder: "/r/a" });
  assert.deepEqual(clusterSettings({ name: "b", nodes: 1 }, environment), { name: "b", nodes: 1, folder: "/r/b" });
});

test("names that lead out of the folder, and numbers that are none, are refused", () => {
  for (const name of ["../x", "A", "a/b", ".", "-", "x".repeat(21)]) {
    assert.throws(() => clusterSettings({ name }, {}), /TULLE_CLUSTER_NAME/);
  }
  for (const nodes of ["0", "10", "1.5", "two"]) {
    assert.throws(() => clusterSettings({}, { TULLE_CLUSTER_NODES: nodes }), /TULLE_CLUSTER_NODES/);
  }
});

test("no cluster takes another's cgroups for its own", () => {
  const other = cgroupName("a-n1", 1);
  assert.ok(other.startsWith(cgroupPrefix("a")));
  assert.doesNotMatch(other.slice(cgroupPrefix("a").length), /^n[1-9]$/);
});

test("the cache is the user's, unless it is said where", () => {
  assert.equal(cacheFolder({ TULLE_CLUSTER_CACHE: "/c" }), "/c");
  assert.equal(cacheFolder({ XDG_CACHE_HOME: "/x" }), "/x/tulle/cluster");
});

test("what a component is built from names its folder", () => {
  const [component] = COMPONENTS;
  assert.ok(component !== undefined);
  const folder = artifactFolder(component, "/c");
  assert.match(folder, /^\/c\/kube-all\/[0-9a-f]{16}$/);
  assert.notEqual(artifactFolder({ ...component, linkerFlags: "-s" }, "/c"), folder);
});
