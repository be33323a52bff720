import assert from "node:assert/strict";
import { test } from "node:test";
import { classifyConnections } from "./pod-connections.ts";

const PROBES = ["169.254.7.127"];

test("only connections that ztunnel has no part in are direct", () => {
  const listing = `
LISTEN    0 128                *:15001               *:*                 ino:1 sk:1 fwmark:0x539 <->
LISTEN    0 511          0.0.0.0:8080          0.0.0.0:*                 ino:2 sk:2 <->
ESTAB     0 0          10.0.0.2:40000        10.0.0.9:80                 ino:3 sk:3 <->
ESTAB     0 0  [::ffff:127.0.0.1]:15001 [::ffff:10.0.0.2]:40000          ino:4 sk:4 fwmark:0x539 <->
ESTAB     0 0          10.0.0.2:50000        10.0.0.9:15008              ino:5 sk:5 fwmark:0x539 <->
ESTAB     0 0          10.0.0.3:41000        10.0.0.2:8080               ino:6 sk:6 fwmark:0x20539 <->
ESTAB     0 0          10.0.0.2:8080         10.0.0.3:41000              ino:7 sk:7 <->
ESTAB     0 0          10.0.0.2:8080         10.0.0.4:42000              ino:8 sk:8 <->
SYN-SENT  0 1          10.0.0.2:40001        10.0.0.8:443                ino:9 sk:9 <->
TIME-WAIT 0 0          10.0.0.2:40002        10.0.0.8:443                ino:0 sk:a
ESTAB     0 0          10.0.0.2:8080    169.254.7.127:5000               ino:10 sk:b <->
ESTAB     0 0          127.0.0.1:8080       127.0.0.1:5000               ino:11 sk:c <->
ESTAB     0 0          10.0.0.2:8080         10.0.0.2:5001               ino:12 sk:d <->
ESTAB     0 0          10.0.0.2:5001         10.0.0.2:8080               ino:13 sk:e <->
ESTAB     0 0          [fd00::2]:8080      [fd00::5%eth0]:43000          ino:14 sk:f <->
`;
  assert.deepEqual(classifyConnections(listing, PROBES), {
    captured: 3,
    direct: [
      { local: { ip: "10.0.0.2", port: 8080 }, peer: { ip: "10.0.0.4", port: 42000 } },
      { local: { ip: "10.0.0.2", port: 40001 }, peer: { ip: "10.0.0.8", port: 443 } },
      { local: { ip: "fd00::2", port: 8080 }, peer: { ip: "fd00::5", port: 43000 } },
    ],
  });
});

test("nothing open, nothing counted", () => {
  assert.deepEqual(classifyConnections("", PROBES), { captured: 0, direct: [] });
});
