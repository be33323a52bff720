import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { PACKET_MARK } from "@tulle/base";
import { Lab, type LabHost, until } from "@tulle/lab";
import {
  addressOf,
  APP_PORT,
  Client,
  FAMILIES,
  FakeZtunnel,
  reach,
  SERVER_PORT,
  startServer,
  threeHosts,
} from "../../test/enrolled-pod.ts";
import { NetNamespace } from "../net-namespace.ts";
import { applyPodRules, drainPodRules, hasPodRules, removePodRules, verifyPodRules } from "./enrolment.ts";
import { podConnections } from "./pod-connections.ts";
import { applyRouting, readRouting } from "./pod-routing.ts";
import { podRules } from "./pod-rules.ts";
import { formatTransaction } from "./ruleset.ts";

const MARK_SETTINGS = ["net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect", "net.ipv6.fwmark_reflect"];

describe("removal and tampering", () => {
  let lab: Lab;
  let pod: LabHost;
  let client: LabHost;
  let server: LabHost;
  const running: AsyncDisposable[] = [];

  before(async () => {
    lab = await Lab.create();
    ({ pod, client, server } = await threeHosts(lab));
    running.push(await startServer(pod, "app", APP_PORT), await startServer(server, "server", SERVER_PORT));
    running.push(await FakeZtunnel.start(pod));
  });
  after(async () => {
    for (const one of running) await one[Symbol.asyncDispose]();
    await lab.close();
  });

  const routes = async () => [
    ...(await pod.namespace.run("ip", ["-4", "route", "show", "table", "all"])).split("\n"),
    ...(await pod.namespace.run("ip", ["-6", "route", "show", "table", "all"])).split("\n"),
  ];
  const state = async () => ({
    ruleset: await pod.namespace.run("nft", ["list", "ruleset"]),
    rules: await pod.namespace.run("ip", ["rule"]),
    rules6: await pod.namespace.run("ip", ["-6", "rule"]),
    // Not all routes: the kernel adds link-local ones in its own time.
    routes: (await routes()).filter((line) => line.includes(" table 100 ")),
    loose: await pod.namespace.sysctl("net.netfilter.nf_conntrack_tcp_loose"),
    marks: await Promise.all(MARK_SETTINGS.map((name) => pod.namespace.sysctl(name))),
  });

  test("removal restores what was before, and may be repeated", async () => {
    const before = await state();
    await applyPodRules(pod.namespace.path);
    assert.notDeepEqual(await state(), before);
    assert.equal(await removePodRules(pod.namespace.path), 0);
    assert.deepEqual(await state(), before);
    assert.equal(await removePodRules(pod.namespace.path), 0);
    for (const family of FAMILIES) {
      assert.equal((await reach(pod, { ip: addressOf(server, family), port: SERVER_PORT })).name, "server");
    }
  });

  test("captured connections survive removal, new ones are direct, and the rest goes with the last of them", async () => {
    await applyPodRules(pod.namespace.path);
    const captured: Client[] = [];
    for (const family of FAMILIES) {
      captured.push(await Client.connect(pod, { ip: addressOf(server, family), port: SERVER_PORT }));
      captured.push(await Client.connect(client, { ip: addressOf(pod, family), port: APP_PORT }));
    }
    using namespace = NetNamespace.open(pod.namespace.path);
    const ends = await removePodRules(pod.namespace.path);
    assert.equal(ends, FAMILIES.length * 3, "outbound: one end each; inbound: two");
    for (const family of FAMILIES) {
      assert.equal((await reach(pod, { ip: addressOf(server, family), port: SERVER_PORT })).name, "server");
      const direct = await reach(client, { ip: addressOf(pod, family), port: APP_PORT });
      assert.deepEqual(direct, { name: "app", peer: addressOf(client, family) });
    }
    assert.equal(podConnections(namespace).captured, ends, "the direct ones are not captured");

    for (const one of captured) await one.echo("still translated");
    assert.equal(await removePodRules(pod.namespace.path), ends);
    for (const one of captured) await one.echo("still translated after another try");

    for (const { socket } of captured) socket.end();
    await until(async () => (await removePodRules(pod.namespace.path)) === 0, {
      what: "the last captured connection to end",
    });
    assert.equal(await pod.namespace.run("nft", ["list", "ruleset"]), "");
    for (const { socket } of captured) socket.destroy();
  });

  test("a pod that is enrolled again while it drains is captured again", async () => {
    await applyPodRules(pod.namespace.path);
    const captured = await Client.connect(pod, { ip: server.v4, port: SERVER_PORT });
    assert.equal(await removePodRules(pod.namespace.path), 1);
    assert.equal((await applyPodRules(pod.namespace.path)).changed, true);
    assert.equal((await reach(pod, { ip: server.v4, port: SERVER_PORT })).name, "outbound");
    await captured.echo("through both changes");
    captured.socket.destroy();
  });

  test("a connection whose end was not tracked keeps no later one with its addresses out", async () => {
    await applyPodRules(pod.namespace.path);
    const captured = await Client.connect(pod, { ip: server.v4, port: SERVER_PORT });
    await drainPodRules(pod.namespace.path);
    const outward = await Client.connect(pod, { ip: server.v4, port: SERVER_PORT });
    const inward = await Client.connect(client, { ip: pod.v4, port: APP_PORT });
    assert.deepEqual([outward.greeting.name, inward.greeting.name], ["server", "app"], "draining: direct, and tracked");
    const sources = {
      outward: { ip: pod.v4, port: portOf(outward) },
      inward: { ip: client.v4, port: portOf(inward) },
    };
    captured.socket.destroy();
    await until(async () => (await removePodRules(pod.namespace.path)) === 0, { what: "the captured one to end" });
    // A reset from the other side leaves the addresses free at once.
    for (const one of [outward, inward]) await one.resetByPeer();
    await applyPodRules(pod.namespace.path);
    const again = await reach(pod, { ip: server.v4, port: SERVER_PORT }, { source: sources.outward });
    assert.equal(again.name, "outbound");
    const inbound = await reach(client, { ip: pod.v4, port: APP_PORT }, { source: sources.inward });
    assert.equal(inbound.name, "app");
    await removePodRules(pod.namespace.path, { force: true });
  });

  test("draining keeps what ztunnel's connections need, although none is left", async () => {
    await applyPodRules(pod.namespace.path);
    await drainPodRules(pod.namespace.path);
    assert.equal(await hasPodRules(pod.namespace.path), true);
    assert.equal((await reach(client, { ip: pod.v4, port: APP_PORT })).name, "app");
    // A tunnel that is open may still bring a connection, which ztunnel makes from the client's address.
    const source = { ip: client.v4, port: 0 };
    const late = await Client.connect(
      pod,
      { ip: pod.v4, port: APP_PORT },
      { mark: PACKET_MARK, source, foreignSource: true },
    );
    assert.deepEqual(late.greeting, { name: "app", peer: client.v4 });
    late.socket.destroy();
    assert.equal(await removePodRules(pod.namespace.path, { force: true }), 0);
    assert.equal(await hasPodRules(pod.namespace.path), false);
  });

  test("connections that others of the pod track are not forgotten", async () => {
    const rules = "table ip own { chain c { type filter hook output priority 0; ct state invalid drop; }; }";
    await pod.namespace.run("nft", ["-f", "-"], { input: rules });
    const own = await Client.connect(pod, { ip: server.v4, port: SERVER_PORT });
    await applyPodRules(pod.namespace.path);
    await own.echo("tracked by the pod's own rules");
    await removePodRules(pod.namespace.path, { force: true });
    await own.echo("and still");
    own.socket.destroy();
    await pod.namespace.run("nft", ["delete", "table", "ip", "own"]);
  });

  test("where the mark cannot be taken over, connection tracking shows the way back", async () => {
    const { pod: other, client: peer } = await threeHosts(lab);
    await using _ = await startServer(other, "app", APP_PORT);
    await using __ = await FakeZtunnel.start(other, { borrowPort: false });
    const tables = podRules({ returnPath: "connection-mark" });
    await other.namespace.run("nft", ["-f", "-"], { input: formatTransaction({ remove: [], add: tables }) });
    using namespace = NetNamespace.open(other.namespace.path);
    applyRouting(namespace, readRouting(namespace, true));
    const inbound = await Client.connect(peer, { ip: other.v4, port: APP_PORT });
    assert.deepEqual(inbound.greeting, { name: "app", peer: peer.v4 });
    await drainPodRules(other.namespace.path);
    await inbound.echo("the way back stays");
    inbound.socket.destroy();
  });

  const tampering: readonly (readonly [what: string, command: readonly string[], told: RegExp])[] = [
    ["a table is gone", ["nft", "delete table inet tulle-pod"], /missing in table inet tulle-pod: table/],
    ["a chain is flushed", ["nft", "flush chain inet tulle-pod nat-output"], /missing .*nat-output, rule "outbound"/],
    [
      "a rule comes first",
      ["nft", "insert rule inet tulle-pod nat-output ip daddr 203.0.113.1 accept"],
      /unexpected .*nat-output, rule .*203\.0\.113\.1/,
    ],
    [
      "a rule is somewhere else in its chain",
      [
        "nft",
        'insert rule inet tulle-pod nat-prerouting tcp dport 15008 accept comment "HBONE goes to ztunnel as it is"',
      ],
      /unexpected in table inet tulle-pod: .*HBONE/,
    ],
    [
      "a policy is another",
      ["nft", "chain inet tulle-pod filter-input { policy drop; }"],
      /missing .*chain filter-input/,
    ],
    ["a chain is added", ["nft", "add chain inet tulle-pod more"], /unexpected .*chain more/],
    ["the rule of policy routing is gone", ["ip", "rule del pref 32764"], /ip -4 rule: missing/],
    ["the route of policy routing is gone", ["ip", "-6 route flush table 100"], /ip -6 route: missing/],
    [
      "the routing table holds something else",
      ["ip", "route add 203.0.113.0/24 dev eth0 table 100"],
      /ip -4 route: table 100 holds other routes/,
    ],
    ["a setting is another", ["sysctl", "-qw net.ipv4.tcp_migrate_req=0"], /tcp_migrate_req is 0, not 1/],
  ];
  for (const [what, [program = "", words = ""], told] of tampering) {
    test(`it is noticed that ${what}, and mended`, async () => {
      await applyPodRules(pod.namespace.path);
      assert.deepEqual(await verifyPodRules(pod.namespace.path), { ok: true, ipv6: "captured" });
      await pod.namespace.run(program, program === "nft" ? [words] : words.split(" "));
      const verdict = await verifyPodRules(pod.namespace.path);
      assert.ok(!verdict.ok);
      assert.match(verdict.differences.join("\n"), told);
      assert.equal((await applyPodRules(pod.namespace.path)).changed, true);
      assert.deepEqual(await verifyPodRules(pod.namespace.path), { ok: true, ipv6: "captured" });
    });
  }

  test("tables of others are left alone", async () => {
    await pod.namespace.run("nft", ["add table inet other"]);
    await applyPodRules(pod.namespace.path);
    assert.deepEqual(await verifyPodRules(pod.namespace.path), { ok: true, ipv6: "captured" });
    await removePodRules(pod.namespace.path);
    assert.equal((await pod.namespace.run("nft", ["list", "tables"])).trim(), "table inet other");
    await pod.namespace.run("nft", ["delete table inet other"]);
  });

  test("a captured connection leaves the pod as ztunnel only: nothing of it is on the wire", async () => {
    await applyPodRules(pod.namespace.path);
    await using capture = await pod.namespace.capture(pod.device, "tcp");
    assert.equal((await reach(pod, { ip: server.v4, port: SERVER_PORT })).name, "outbound");
    await reach(pod, { ip: server.v4, port: SERVER_PORT }, { mark: 0x539 });
    await capture.packet(({ source }) => source.port === SERVER_PORT, "the marked connection");
    const syns = (await capture.stop()).filter(({ flags }) => flags.syn && !flags.ack);
    assert.equal(syns.length, 1);
  });

  test("a namespace that does not exist is an error that says so", async () => {
    await assert.rejects(applyPodRules("/run/netns/no-such-namespace"), /no-such-namespace/);
    await assert.rejects(removePodRules("/run/netns/no-such-namespace"), /no-such-namespace/);
  });
});

function portOf({ socket }: Client): number {
  assert.ok(socket.localPort !== undefined);
  return socket.localPort;
}
