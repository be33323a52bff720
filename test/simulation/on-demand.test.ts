import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "@tulle/base";
import { CALM, type Connection } from "@tulle/reactor";
import { ApplicationPeer } from "./application.ts";
import { simulatedMaterial } from "./identities.ts";
import { simulationContext } from "./tls.ts";
import { NAMESPACE, SERVICE_PORT, serviceOf, TARGET_PORT, World, workloadOf } from "./world.ts";

/** Addresses that are asked for when a connection needs them (spec: l4-ztunnel §5.5). */

const VIP = "10.96.0.10";
const BEHAVIOUR = { bytes: 5000, resetAfter: undefined, finish: "when-sent", slow: undefined } as const;

function createWorld(): World {
  const world = new World({
    seed: 7,
    faults: CALM,
    createContext: simulationContext(7),
    material: simulatedMaterial,
    onDemand: true,
    pods: [
      { name: "client", node: "a", ips: ["10.0.1.1"], enrolled: true },
      { name: "two", node: "b", ips: ["10.0.2.2"], enrolled: true },
    ],
  });
  const two = world.pods.get("two");
  assert.ok(two);
  const key = `${NAMESPACE}/web.${NAMESPACE}.svc.cluster.local`;
  const services = new Map([[key, new Map([[SERVICE_PORT, TARGET_PORT]])]]);
  world.apply([
    { kind: "service", service: serviceOf("web", [VIP]) },
    { kind: "workload", workload: workloadOf(two.pod, { services }) },
  ]);
  return world;
}

/** One connection from the client pod; returns both ends when it is over. */
function connect(
  world: World,
  address: SocketAddress,
): { client: ApplicationPeer; server: ApplicationPeer | undefined } {
  const serverReactor = world.applicationReactor("two");
  let server: ApplicationPeer | undefined;
  const onAccept = (connection: Connection) => {
    server = new ApplicationPeer(serverReactor, BEHAVIOUR, 1_000_000);
    server.accepted(connection);
  };
  serverReactor.listen({ address: { ip: "::", port: TARGET_PORT } }, { onAccept, onAcceptError() {} });
  const reactor = world.applicationReactor("client");
  const client = new ApplicationPeer(reactor, BEHAVIOUR, 1);
  reactor.connect({ address }, client);
  world.network.run(30_000, () => client.over && server?.over !== false);
  return { client, server };
}

test("a service that nobody has mentioned is asked for, with its endpoints, and reached", () => {
  const world = createWorld();
  const { client, server } = connect(world, { ip: VIP, port: SERVICE_PORT });
  assert.equal(client.state, "ended");
  assert.equal(server?.received, BEHAVIOUR.bytes);
  assert.deepEqual(world.asked, [`/${VIP}`], "once, however many connections need it");
  world.close();
});

test("a pod is asked for by its address, encrypted and reached", () => {
  const world = createWorld();
  let plaintext = false;
  world.network.onSegment = (from, to, bytes) => {
    if (from !== to && Buffer.from(bytes).includes("PLAINTEXT-OF-APP")) plaintext = true;
  };
  const { client } = connect(world, { ip: "10.0.2.2", port: TARGET_PORT });
  assert.equal(client.state, "ended");
  assert.ok(!plaintext, "an address that is not known yet is not an unknown one");
  assert.deepEqual(world.asked, ["/10.0.2.2"]);
  world.close();
});

test("an address of the mesh's own ranges that the control plane does not know is refused", () => {
  const world = createWorld();
  const { client } = connect(world, { ip: "10.0.9.9", port: 80 });
  assert.equal(client.state, "reset");
  assert.deepEqual(world.asked, ["/10.0.9.9"]);
  world.close();
});
