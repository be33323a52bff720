import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connectFrom, datagramIn, Lab, type LabHost, listenIn, until } from "@tulle/lab";
import { NetNamespace } from "../net-namespace.ts";
import { NamespaceProbe } from "./namespace-probe.ts";
import { namespaceAddresses, readNamespaceState } from "./namespace-state.ts";
import {
  CONNECTED_STATES,
  ConnectionTable,
  destroyTcpSockets,
  TcpState,
  tcpSockets,
  udpSockets,
} from "./tcp-sockets.ts";

const TABLE = 100;

describe("what the kernel tells of a namespace by netlink", () => {
  let lab: Lab;
  let pod: LabHost;
  let client: LabHost;
  let namespace: NetNamespace;
  before(async () => {
    lab = await Lab.create();
    pod = await lab.host("pod");
    client = await lab.host("client");
    namespace = NetNamespace.open(pod.namespace.path);
  });
  after(async () => {
    namespace.close();
    await lab.close();
  });

  test("addresses are those of the namespace, not of this process", () => {
    const addresses = namespaceAddresses(namespace);
    assert.ok(addresses.includes(pod.v4));
    if (pod.v6 !== undefined) assert.ok(addresses.includes(pod.v6));
    assert.ok(!addresses.includes("127.0.0.1"));
    assert.ok(!addresses.includes(client.v4));
  });

  const changes: readonly (readonly [what: string, program: string, words: string])[] = [
    ["a table of rules", "nft", "add table inet x"],
    ["a chain", "nft", "add chain inet x y"],
    ["a policy rule", "ip", "rule add fwmark 0x7 pref 99 lookup 100"],
    ["a route", "ip", "route add local 192.0.2.1/32 dev lo table 100"],
    ["an IPv6 route", "ip", "-6 route add local 2001:db8::1/128 dev lo table 100"],
    ["an address", "ip", "addr add 192.0.2.7/32 dev eth0"],
  ];
  for (const [what, program, words] of changes) {
    test(`${what} that appears changes the state, and nothing else does`, async () => {
      const before = readNamespaceState(namespace, TABLE);
      assert.deepEqual(readNamespaceState(namespace, TABLE), before);
      await pod.namespace.run(program, words.split(" "));
      assert.notDeepEqual(readNamespaceState(namespace, TABLE), before);
    });
  }

  test("single connections are found by their addresses, those that are over too, and listeners are none", async () => {
    using table = ConnectionTable.open(namespace);
    for (const ip of [pod.v4, ...(pod.v6 === undefined ? [] : [pod.v6])]) {
      const from = ip === pod.v4 ? client.v4 : (client.v6 ?? "");
      // An IPv6 socket takes IPv4 too.
      await using _ = await listenIn(pod.namespace.path, { ip: "::", port: 8081 }, (socket) => socket.resume());
      const local = { ip, port: 8081 };
      const socket = await connectFrom(client.namespace.path, local);
      const peer = { ip: from, port: socket.localPort ?? 0 };
      assert.equal(table.has(local, peer), true);
      assert.equal(table.has(local, { ...peer, port: 1 }), false);
      assert.equal(table.has({ ...local, port: 8082 }, peer), false);
      socket.resetAndDestroy();
      await until(() => !table.has(local, peer), { what: "the connection to be gone" });
    }
    assert.equal(table.has({ ip: pod.v4, port: 1 }, { ip: "::1", port: 1 }), false, "of two families");
  });

  test("listening sockets are listed with their marks, connections are reset at both ends", async () => {
    await using _marked = await listenIn(pod.namespace.path, { ip: "::", port: 15006 }, () => {}, { mark: 0x539 });
    await using _plain = await listenIn(pod.namespace.path, { ip: pod.v4, port: 8080 }, () => {});
    const listening = () => tcpSockets(namespace, [TcpState.LISTEN]);
    assert.equal(listening().find(({ local }) => local.port === 15006)?.mark, 0x539);
    assert.deepEqual(listening().find(({ local }) => local.port === 8080)?.local, { ip: pod.v4, port: 8080 });
    assert.equal(udpSockets(namespace).length, 0);

    const first = await connectFrom(client.namespace.path, { ip: pod.v4, port: 8080 });
    const second = await connectFrom(client.namespace.path, { ip: pod.v4, port: 15006 });
    const inbound = tcpSockets(namespace, CONNECTED_STATES).filter((one) => one.local.port === 8080);
    assert.deepEqual(inbound[0]?.peer, { ip: client.v4, port: first.localPort });
    first.resume();
    assert.equal(destroyTcpSockets(namespace, inbound), 1);
    await until(() => first.destroyed, { what: "the reset" });
    assert.equal(destroyTcpSockets(namespace, inbound), 0, "it is gone");
    const left = tcpSockets(namespace, CONNECTED_STATES);
    assert.deepEqual(
      left.map(({ local }) => local),
      [{ ip: pod.v4, port: 15006 }],
      "mapped addresses are IPv4",
    );
    second.destroy();
  });

  test("a probe tells changes of addresses, routes and policy rules once, and finds single ports", async () => {
    using probe = NamespaceProbe.open(namespace);
    assert.equal(probe.routingChanged(), false);
    for (const words of [
      "addr add 192.0.2.8/32 dev eth0",
      "rule add pref 98 lookup 100",
      "-6 rule add pref 98 lookup 100",
    ]) {
      await pod.namespace.run("ip", words.split(" "));
      assert.equal(probe.routingChanged(), true, words);
      assert.equal(probe.routingChanged(), false, words);
    }
    const before = probe.rulesGeneration();
    await pod.namespace.run("nft", ["add table inet z"]);
    assert.notEqual(probe.rulesGeneration(), before);
    assert.equal(probe.markOf("tcp", 15008), undefined);
    await using _marked = await listenIn(pod.namespace.path, { ip: "::", port: 15008 }, () => {}, { mark: 0x539 });
    const dns = await datagramIn(pod.namespace.path, { ip: "127.0.0.1", port: 15053 }, { mark: 0x539 });
    assert.equal(probe.markOf("tcp", 15008), 0x539);
    assert.equal(probe.markOf("udp", 15053), 0x539);
    assert.equal(probe.markOf("udp", 15054), undefined);
    dns.close();
  });

  test("more changes than a probe has room for are a change", async () => {
    using probe = NamespaceProbe.open(namespace);
    const many = Array.from({ length: 3000 }, (_, i) => `route add 198.51.${i >> 8}.${i & 255}/32 dev eth0 table 7`);
    await pod.namespace.ip(many);
    assert.equal(probe.routingChanged(), true);
    assert.equal(probe.routingChanged(), false);
    await pod.namespace.ip(["route flush table 7"]);
  });

  test("a listener that somebody destroys is no longer listed", async () => {
    await using _server = await listenIn(pod.namespace.path, { ip: "::", port: 15008 }, () => {});
    const found = tcpSockets(namespace, [TcpState.LISTEN]).filter(({ local }) => local.port === 15008);
    assert.equal(destroyTcpSockets(namespace, found), 1);
    assert.ok(!tcpSockets(namespace, [TcpState.LISTEN]).some(({ local }) => local.port === 15008));
  });
});
