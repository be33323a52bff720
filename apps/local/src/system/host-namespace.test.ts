import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { test } from "node:test";
import { NetNamespace } from "@tulle/linux";
import { HostNamespace } from "./host-namespace.ts";

test("the host's namespace is the same while this process is in another one", () => {
  using host = new HostNamespace();
  using other = NetNamespace.create();
  const home = readlinkSync(host.path);
  assert.equal(home, readlinkSync("/proc/self/ns/net"));
  other.enter(() => {
    assert.notEqual(readlinkSync(`/proc/${process.pid}/ns/net`), home);
    assert.equal(readlinkSync(host.path), home);
  });
  using opened = NetNamespace.open(host.path);
  assert.equal(
    opened.enter(() => readlinkSync(`/proc/${process.pid}/ns/net`)),
    home,
  );
});
