import assert from "node:assert/strict";
import type { Server } from "node:net";
import { after, before, describe, test } from "node:test";
import { INBOUND_HBONE_PORT, PACKET_MARK } from "@tulle/base";
import { Lab, type LabHost } from "@tulle/lab";
import {
  addressOf,
  APP_PORT,
  askDns,
  Client,
  FAMILIES,
  FakeZtunnel,
  reach,
  SERVER_PORT,
  startServer,
  threeHosts,
} from "../../test/enrolled-pod.ts";
import { rulesOverview } from "../netlink/netfilter.ts";
import { NetNamespace } from "../net-namespace.ts";
import { applyPodRules, verifyPodRules } from "./enrolment.ts";

describe("an enrolled pod", () => {
  let lab: Lab;
  let pod: LabHost;
  let client: LabHost;
  let server: LabHost;
  const running: AsyncDisposable[] = [];
  const earlier: Client[] = [];
  const overview = () => {
    using namespace = NetNamespace.open(pod.namespace.path);
    return rulesOverview(namespace);
  };

  before(async () => {
    lab = await Lab.create();
    ({ pod, client, server } = await threeHosts(lab));
    running.push(await startServer(pod, "app", APP_PORT), await startServer(server, "server", SERVER_PORT));
    for (const family of FAMILIES) {
      earlier.push(await Client.connect(pod, { ip: addressOf(server, family), port: SERVER_PORT }));
      earlier.push(await Client.connect(client, { ip: addressOf(pod, family), port: APP_PORT }));
    }
    running.push(await FakeZtunnel.start(pod));
    const applied = await applyPodRules(pod.namespace.path);
    const { generation, ...rest } = applied;
    assert.deepEqual(rest, { changed: true, ipv6: "captured", notes: [], establishedBefore: earlier.length });
    assert.equal(generation, overview().generation, "one transaction, which nobody has to verify");
  });
  after(async () => {
    for (const { socket } of earlier) socket.destroy();
    for (const one of running) await one[Symbol.asyncDispose]();
    await lab.close();
  });

  test("a second application finds everything in force and changes nothing", async () => {
    const rules = () => pod.namespace.run("nft", ["-a", "list", "ruleset"]);
    const before = await rules();
    assert.equal((await applyPodRules(pod.namespace.path)).changed, false);
    assert.equal(
      (await rules()).replaceAll(/packets \d+ bytes \d+/g, ""),
      before.replaceAll(/packets \d+ bytes \d+/g, ""),
    );
    assert.deepEqual(await verifyPodRules(pod.namespace.path), { ok: true, ipv6: "captured" });
  });

  for (const family of FAMILIES) {
    test(`a new connection out of the pod is captured (${family})`, async () => {
      const { name } = await reach(pod, { ip: addressOf(server, family), port: SERVER_PORT });
      assert.equal(name, "outbound");
    });

    test(`so is one to an address that nobody has (${family})`, async () => {
      const { name } = await reach(pod, { ip: family === "v4" ? "203.0.113.1" : "2001:db8::1", port: 80 });
      assert.equal(name, "outbound");
    });

    test(`a plaintext connection to the pod is captured, and the application sees the client (${family})`, async () => {
      const inbound = await Client.connect(client, { ip: addressOf(pod, family), port: APP_PORT });
      assert.deepEqual(inbound.greeting, { name: "app", peer: addressOf(client, family) });
      await inbound.echo("through the redirection and back");
      const listing = await pod.namespace.run("ss", ["-Htn", "state", "established"]);
      assert.match(listing, /:15006\b/, "it passed through ztunnel's port");
      inbound.socket.destroy();
    });

    test(`ztunnel may borrow the client's port too, which tracking would take for the captured connection (${family})`, async () => {
      const to = { ip: addressOf(pod, family), port: APP_PORT };
      const inbound = await Client.connect(client, to);
      const port = String(inbound.socket.localPort);
      const ends = (await pod.namespace.run("ss", ["-Htn", "state", "established"])).split("\n");
      const ofClient = ends.filter((line) => line.includes(`:${port} `) || line.trimEnd().endsWith(`:${port}`));
      assert.equal(
        ofClient.length,
        3,
        `15006, ztunnel's to the application, and the application's:\n${ends.join("\n")}`,
      );
      await inbound.echo("the same four numbers twice");
      inbound.socket.destroy();
    });

    test(`what the application refuses comes back to ztunnel (${family})`, async () => {
      const ip = addressOf(pod, family);
      const source = { ip: addressOf(client, family), port: 0 };
      const refused = Client.connect(pod, { ip, port: 81 }, { mark: PACKET_MARK, source, foreignSource: true });
      await assert.rejects(refused, { code: "ECONNREFUSED" });
    });

    test(`connections from before go on as they are (${family})`, async () => {
      const ofFamily = earlier.filter(({ socket }) => socket.remoteFamily === `IP${family}`);
      assert.deepEqual(
        ofFamily.map(({ greeting }) => greeting.name),
        ["server", "app"],
      );
      for (const one of ofFamily) await one.echo("still here");
    });

    test(`loopback, the pod's own address and ztunnel's packets pass (${family})`, async () => {
      const loopback = family === "v4" ? "127.0.0.1" : "::1";
      assert.equal((await reach(pod, { ip: loopback, port: APP_PORT })).name, "app");
      assert.equal((await reach(pod, { ip: addressOf(pod, family), port: APP_PORT })).name, "app");
      const marked = await reach(pod, { ip: addressOf(server, family), port: SERVER_PORT }, { mark: PACKET_MARK });
      assert.equal(marked.name, "server");
    });

    test(`HBONE reaches ztunnel without redirection (${family})`, async () => {
      const { name } = await reach(client, { ip: addressOf(pod, family), port: INBOUND_HBONE_PORT });
      assert.equal(name, "hbone");
    });

    test(`DNS goes to ztunnel, over UDP and TCP, whatever server was asked (${family})`, async () => {
      const resolver = { ip: family === "v4" ? "203.0.113.53" : "2001:db8::53", port: 53 };
      assert.equal(await askDns(pod, resolver), "dns");
      assert.equal((await reach(pod, resolver)).name, "dns");
    });

    test(`a health probe reaches the application directly (${family})`, async () => {
      const probe = family === "v4" ? "169.254.7.127" : "fd16:9254:7127:1337:ffff:ffff:ffff:ffff";
      await lab.fabric.ip([`addr add ${probe} dev ${lab.bridge} ${family === "v6" ? "nodad" : ""}`]);
      const source = { ip: probe, port: 0 };
      const fabric: LabHost = { namespace: lab.fabric, device: lab.bridge, ...lab.gateway };
      const probed = await reach(fabric, { ip: addressOf(pod, family), port: APP_PORT }, { source });
      assert.deepEqual(probed, { name: "app", peer: probe });
      const { changed } = await applyPodRules(pod.namespace.path);
      assert.equal(changed, false);
    });

    test(`addresses and ports of an uncaptured connection cannot be used again past ztunnel (${family})`, async () => {
      const old = earlier.find(
        ({ greeting, socket }) => greeting.name === "app" && socket.remoteFamily === `IP${family}`,
      );
      assert.ok(old !== undefined);
      earlier.splice(earlier.indexOf(old), 1);
      await old.echo("a packet in the middle of the connection");
      const source = { ip: addressOf(client, family), port: old.socket.localPort ?? 0 };
      // A reset from the server's side leaves the four-tuple free at once; tracking would keep an entry that nat passes by.
      await old.resetByPeer();
      const to = { ip: addressOf(pod, family), port: APP_PORT };
      const again = await Client.connect(client, to, { source });
      const listing = await pod.namespace.run("ss", ["-Htn", "state", "established"]);
      assert.match(listing, new RegExp(`:15006 .*:${source.port}\\b`), "the new connection goes through ztunnel");
      again.socket.destroy();
    });
  }

  test("even where tracking is loose, a stale entry lets no new connection past ztunnel", async () => {
    const loose = "net.netfilter.nf_conntrack_tcp_loose";
    const { pod: other } = await threeHosts(lab);
    await using _ = await startServer(other, "app", APP_PORT);
    await using __ = await FakeZtunnel.start(other);
    const to = { ip: other.v4, port: APP_PORT };
    const old = await Client.connect(client, to);
    await applyPodRules(other.namespace.path);
    await other.namespace.sysctl(loose, 1);
    await old.echo("tracked from here on");
    const source = { ip: client.v4, port: old.socket.localPort ?? 0 };
    await old.resetByPeer();
    await assert.rejects(Client.connect(client, to, { source, timeoutMs: 300 }), { code: "ETIMEDOUT" });
    const verdict = await verifyPodRules(other.namespace.path);
    assert.ok(!verdict.ok && verdict.differences.join().includes("tcp_loose is 1"));
  });

  test("settings of the namespace are made", async () => {
    assert.equal(await pod.namespace.sysctl("net.ipv4.tcp_migrate_req"), "1");
    assert.equal(await pod.namespace.sysctl("net.netfilter.nf_conntrack_tcp_loose"), "0");
    for (const name of ["net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect", "net.ipv6.fwmark_reflect"]) {
      assert.equal(await pod.namespace.sysctl(name), "1", name);
    }
  });
});

describe("variants", () => {
  let lab: Lab;
  const running: (Server & AsyncDisposable)[] = [];
  before(async () => {
    lab = await Lab.create();
  });
  after(async () => {
    for (const one of running) await one[Symbol.asyncDispose]();
    await lab.close();
  });

  test("in ingress mode inbound connections are direct, outbound ones captured", async () => {
    const { pod, client, server } = await threeHosts(lab);
    running.push(await startServer(pod, "app", APP_PORT), await startServer(server, "server", SERVER_PORT));
    await using _ = await FakeZtunnel.start(pod);
    await applyPodRules(pod.namespace.path, { ingressMode: true });
    for (const family of FAMILIES) {
      const direct = await Client.connect(client, { ip: addressOf(pod, family), port: APP_PORT });
      assert.equal(direct.greeting.name, "app");
      assert.doesNotMatch(await pod.namespace.run("ss", ["-Htn", "state", "established"]), /:15006\b/);
      direct.socket.destroy();
      assert.equal((await reach(pod, { ip: addressOf(server, family), port: SERVER_PORT })).name, "outbound");
    }
  });

  test("without DNS capture DNS is an ordinary destination", async () => {
    const { pod } = await threeHosts(lab);
    await using _ = await FakeZtunnel.start(pod);
    await applyPodRules(pod.namespace.path, { dnsCapture: false });
    assert.equal((await reach(pod, { ip: "203.0.113.53", port: 53 })).name, "outbound");
    const lookup = askDns(pod, { ip: "203.0.113.53", port: 53 }, 300);
    await assert.rejects(lookup, { name: "AbortError" }, "nobody answers");
  });

  test("what comes in by a virtual interface is outbound traffic of the pod", async () => {
    const { pod } = await threeHosts(lab);
    const machine = await lab.namespace("vm");
    await lab.link(
      { namespace: pod.namespace, device: "vm0", addresses: ["10.200.0.1/24", "fd20::1/64"] },
      { namespace: machine, device: "eth0", addresses: ["10.200.0.2/24", "fd20::2/64"] },
    );
    await machine.ip(["route add default via 10.200.0.1", "route add ::/0 via fd20::1"]);
    await using _ = await FakeZtunnel.start(pod);
    await applyPodRules(pod.namespace.path, { virtualInterfaces: ["vm0"] });
    const inside: LabHost = { namespace: machine, device: "eth0", v4: "10.200.0.2", v6: "fd20::2" };
    for (const ip of ["203.0.113.1", "2001:db8::1"])
      assert.equal((await reach(inside, { ip, port: 80 })).name, "outbound");
  });

  test("where IPv6 is off on loopback but on elsewhere, IPv4 is captured and IPv6 dropped", async () => {
    const { pod, client, server } = await threeHosts(lab);
    running.push(await startServer(pod, "app", APP_PORT), await startServer(server, "server", SERVER_PORT));
    await using _ = await FakeZtunnel.start(pod);
    await pod.namespace.sysctl("net.ipv6.conf.lo.disable_ipv6", 1);
    const { ipv6, notes } = await applyPodRules(pod.namespace.path);
    assert.equal(ipv6, "dropped");
    assert.match(notes.join(), /off on the pod's loopback/);
    assert.deepEqual(await verifyPodRules(pod.namespace.path), { ok: true, ipv6: "dropped" });
    assert.equal((await reach(pod, { ip: server.v4, port: SERVER_PORT })).name, "outbound");
    const outward = reach(pod, { ip: addressOf(server, "v6"), port: SERVER_PORT }, { timeoutMs: 300 });
    await assert.rejects(outward, { code: "ETIMEDOUT" });
    const inward = reach(client, { ip: addressOf(pod, "v6"), port: APP_PORT }, { timeoutMs: 300 });
    await assert.rejects(inward, { code: "ETIMEDOUT" });

    await pod.namespace.sysctl("net.ipv6.conf.lo.disable_ipv6", 0);
    assert.equal((await applyPodRules(pod.namespace.path)).ipv6, "captured", "once it is possible");
    assert.equal((await reach(pod, { ip: addressOf(server, "v6"), port: SERVER_PORT })).name, "outbound");
  });
});
