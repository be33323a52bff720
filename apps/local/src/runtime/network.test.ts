import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { run } from "@tulle/lab";
import { createBridge, deleteLink } from "./network.ts";

test("the bridge keeps its link address when ports come and go: who knows the gateway goes on reaching it", async () => {
  const name = process.pid.toString(36);
  const [bridge, port] = [`tullet-${name}`, `tullep-${name}`];
  const address = () => readFileSync(`/sys/class/net/${bridge}/address`, "utf8").trim();
  try {
    await createBridge({ bridge, gateway: { v4: "192.0.2.1", v6: undefined }, v4Bits: 32, v6Bits: 128 });
    const before = address();
    await run("ip", ["link", "add", port, "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", `${port}o`]);
    await run("ip", ["link", "set", port, "master", bridge, "up"]);
    assert.equal(address(), before);
    await deleteLink(port);
    assert.equal(address(), before);
  } finally {
    for (const link of [port, bridge]) await deleteLink(link);
  }
});
