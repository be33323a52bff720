import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { until } from "@tulle/lab";
import { type AccessLogLine, ECHO_PORTS } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { type App, hostOf, hosts, LOCAL_ONLY_PORT, NAMESPACE, type Scene } from "./scene.ts";

const PAIRS: readonly (readonly [from: App, to: App])[] = [
  ["client", "captured"],
  ["client", "uncaptured"],
  ["uncaptured", "captured"],
  ["uncaptured", "client"],
  ["visitor", "captured"],
  ["captured", "client"],
];
/** Enough that one of two endpoints is left out by chance once in half a million runs. */
const NEW_CONNECTIONS = 20;

/** Services, pods' own addresses, load balancing, and what it is all carried by. */
export function trafficTests(apps: () => Applications): void {
  describe("traffic", () => {
    reachTests(apps);
    surroundingsTests(apps);
  });
}

/** Who is reached, and how, in any mesh. */
export function reachTests(apps: () => Scene): void {
  for (const [from, to] of PAIRS) {
    test(`goes from ${from} to the service ${to} by name, over HTTP and TCP, also where the server speaks first`, async () => {
      const name = `${to}.${NAMESPACE}`;
      const names = apps()
        .pods(to)
        .map(({ metadata }) => metadata.name);
      for (const host of [name, `${name}.svc.cluster.local`]) {
        const answer = await apps().ask(from, `http://${host}/by-name`);
        assert.ok(names.includes(answer.pod), answer.pod);
        assert.equal(answer.host, host);
      }
      const marker = randomUUID();
      assert.equal(await apps().send(from, `${name}:${ECHO_PORTS.tcp}`, marker), marker);
      const greeting = await apps().send(from, `${name}:${ECHO_PORTS.serverFirst}`, marker);
      assert.match(greeting, new RegExp(`^hello from ${to}-.*\n${marker}$`));
    });

    test(`goes from ${from} to exactly that pod of ${to} by its addresses, and the server sees the client's`, async () => {
      for (const pod of apps().pods(to)) {
        for (const [family, host] of hosts(pod).entries()) {
          const answer = await apps().ask(from, `http://${host}:${ECHO_PORTS.http}/`);
          assert.equal(answer.pod, pod.metadata.name);
          assert.equal(hostOf(answer.remote), apps().pod(from).status.podIPs?.[family]?.ip);
        }
      }
    });
  }

  test("goes from a pod to itself, by its addresses and by its service", async () => {
    const pod = apps().pod("client");
    for (const host of [...hosts(pod), "client", "127.0.0.1"]) {
      const answer = await apps().ask("client", `http://${host}:${ECHO_PORTS.http}/`);
      assert.equal(answer.pod, pod.metadata.name, host);
    }
  });

  test("does not reach what listens on another pod's loopback address only", async () => {
    const [host] = hosts(apps().pod("local"));
    const local = `127.0.0.1:${LOCAL_ONLY_PORT}`;
    assert.equal(await apps().send("local", local, "at home"), "at home");
    for (const from of ["client", "uncaptured"] as const) {
      assert.equal(await apps().reaches(from, `local.${NAMESPACE}:${LOCAL_ONLY_PORT}`), false, from);
      assert.equal(await apps().reaches(from, `${host}:${LOCAL_ONLY_PORT}`), false, from);
      await apps().get(from, `http://${host}:${ECHO_PORTS.http}/`);
    }
  });

  test("is spread over the pods of a service, connection by connection", async () => {
    const urls = Array.from({ length: NEW_CONNECTIONS }, () => `http://captured.${NAMESPACE}/`);
    for (const from of ["client", "uncaptured"] as const) {
      const said = await apps().get(from, ...urls);
      const names = new Set([...said.matchAll(/"pod":"([^"]+)"/g)].map(([, name]) => name));
      assert.deepEqual(
        names,
        new Set(
          apps()
            .pods("captured")
            .map(({ metadata }) => metadata.name),
        ),
        from,
      );
    }
  });
}

/** What a cluster has around its pods. */
function surroundingsTests(apps: () => Applications): void {
  test("reaches the API server and other places outside of the mesh from a captured pod", async () => {
    // TLS is what it wants to speak: that it says so proves that we are there.
    assert.match(await apps().get("client", "http://kubernetes.default.svc:443/"), /^400 .*HTTPS server/);
    const node = await apps().cluster.get<{ status: { addresses: { address: string }[] } }>("/api/v1/nodes/n2");
    const [address] = node?.status.addresses ?? [];
    assert.match(await apps().get("client", `http://${address?.address}:10250/`), /^400 .*HTTPS server/);
  });

  test("is mutual TLS between captured pods, with both identities known, and plaintext from others", async () => {
    const since = Date.now();
    const marker = randomUUID();
    await using capture = await apps().cluster.captureBridges("tcp");
    const addresses = apps()
      .pods("captured")
      .map((pod) => `${hosts(pod)[0]}:${ECHO_PORTS.tcp}`);
    for (const address of addresses) assert.equal(await apps().send("client", address, marker), marker);
    await until(() => (capture.payloads().nodes ?? 0) > 0, { what: "packets between the nodes" });
    assert.deepEqual(capture.seenOn(marker), []);
    // The same capture sees what is not encrypted: across nodes or inside one.
    for (const address of addresses) await apps().send("uncaptured", address, marker);
    await until(() => capture.seenOn(marker).length > 0, { what: "the plaintext to be seen" });

    const inbound = (line: AccessLogLine, from: string) =>
      line.direction === "inbound" && line["src.workload"]?.startsWith(`${from}-`) === true;
    const lines = await until(
      async () => {
        const found = [...(await apps().mesh.accessLog(1, since)), ...(await apps().mesh.accessLog(2, since))];
        const wanted = (from: string) => found.filter((line) => inbound(line, from)).length >= addresses.length;
        return wanted("client") && wanted("uncaptured") && found;
      },
      { what: "the access log of both clients", timeoutMs: 30_000, intervalMs: 500 },
    );
    for (const line of lines.filter((one) => inbound(one, "client"))) {
      assert.equal(line["src.identity"], `spiffe://cluster.local/ns/${NAMESPACE}/sa/client`);
      assert.equal(line["dst.identity"], `spiffe://cluster.local/ns/${NAMESPACE}/sa/captured`);
      assert.match(line["dst.addr"] ?? "", /:15008$/);
    }
    for (const line of lines.filter((one) => inbound(one, "uncaptured"))) {
      assert.equal(line["src.identity"], undefined);
      assert.match(line["dst.addr"] ?? "", new RegExp(`:${ECHO_PORTS.tcp}$`));
    }
  });
}
