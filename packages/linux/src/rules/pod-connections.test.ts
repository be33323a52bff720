import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSocketAddress, type SocketAddress } from "@tulle/base";
import { classifyConnections, directConnections } from "./pod-connections.ts";

const PROBES = ["169.254.7.127"];

function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed, text);
  return parsed;
}

type Line = readonly [local: string, peer: string, mark?: number];

function entry([local, peer, mark = 0]: Line) {
  return { local: address(local), peer: address(peer), mark, id: Buffer.from(`${local} ${peer}`) };
}

test("only connections that ztunnel has no part in are direct", () => {
  const listing: readonly Line[] = [
    ["10.0.0.2:40000", "10.0.0.9:80"],
    ["127.0.0.1:15001", "10.0.0.2:40000", 0x539],
    ["10.0.0.2:50000", "10.0.0.9:15008", 0x539],
    ["10.0.0.3:41000", "10.0.0.2:8080", 0x20539],
    ["10.0.0.2:8080", "10.0.0.3:41000"],
    ["10.0.0.2:8080", "10.0.0.4:42000"],
    ["10.0.0.2:40001", "10.0.0.8:443"],
    ["10.0.0.2:8080", "169.254.7.127:5000"],
    ["127.0.0.1:8080", "127.0.0.1:5000"],
    ["10.0.0.2:8080", "10.0.0.2:5001"],
    ["10.0.0.2:5001", "10.0.0.2:8080"],
    ["[fd00::2]:8080", "[fd00::5]:43000"],
  ];
  const { captured, inUse, direct } = classifyConnections(listing.map(entry), PROBES);
  assert.equal(captured, 3);
  assert.equal(inUse, 2, "the tunnel to another ztunnel is none of the application's");
  assert.deepEqual(
    direct.map(({ peer }) => peer),
    [
      { ip: "10.0.0.4", port: 42000 },
      { ip: "10.0.0.8", port: 443 },
      { ip: "fd00::5", port: 43000 },
    ],
  );
});

test("nothing open, nothing counted", () => {
  assert.deepEqual(classifyConnections([], PROBES), { captured: 0, inUse: 0, direct: [] });
});

test("a connection that is made while the kernel lists is no direct one, for want of ztunnel's end in the list", () => {
  const old: Line = ["10.0.0.2:8080", "10.0.0.4:42000"];
  const application: Line = ["10.0.0.2:8080", "10.0.0.3:41000"];
  const ztunnel: Line = ["10.0.0.3:41000", "10.0.0.2:8080", 0x539];
  const later: Line = ["10.0.0.2:8080", "10.0.0.3:41001"];
  const lists = [
    [old, application],
    [old, application, ztunnel, later],
  ];
  const looks = lists.map((lines) => classifyConnections(lines.map(entry), PROBES));
  assert.equal(looks[1]?.inUse, 1);
  const direct = directConnections(() => looks.shift() ?? assert.fail("a third look"));
  assert.deepEqual(
    direct.map(({ peer }) => peer.port),
    [42000],
  );
});
