import assert from "node:assert/strict";
import { test } from "node:test";
import { didYouMean, nearNames } from "./near-names.ts";

test("near names come first, far ones not at all", () => {
  assert.deepEqual(nearNames("instal", ["uninstall", "install", "status"]), ["install"]);
  assert.deepEqual(nearNames("ipv6", ["cni.ambient.ipv6", "cni.env"]), ["cni.ambient.ipv6"]);
  assert.equal(didYouMean("zzzzzz", ["install"]), undefined);
  assert.equal(didYouMean("statsu", ["status"]), "did you mean status?");
});
