import assert from "node:assert/strict";
import { test } from "node:test";
import { CALM, type Connection } from "@tulle/reactor";
import { ApplicationPeer } from "./application.ts";
import { simulatedMaterial } from "./identities.ts";
import { simulationContext } from "./tls.ts";
import { NAMESPACE, SERVICE_PORT, serviceOf, TARGET_PORT, World, workloadOf } from "./world.ts";

/** Pods that join or leave the mesh while they are being connected to. */

const VIP = "10.96.0.10";
const HBONE_PORT = 15008;
const BEHAVIOUR = { bytes: 5000, resetAfter: undefined, finish: "when-sent", slow: undefined } as const;
/** Long enough for news to arrive while a connection is being made. */
const SLOW = { ...CALM, minLatencyMs: 10, maxLatencyMs: 10 };

for (const [what, ip, port] of [
  ["by its address", "10.0.2.2", TARGET_PORT],
  ["by a service of which it is the only endpoint", VIP, SERVICE_PORT],
] as const) {
  /** `news`: what is heard once a tunnel is being opened to the pod, at whose HBONE port nobody listens any more. */
  const connect = (news: "it has left the mesh" | "nothing") => {
    const two = { name: "two", node: "b", ips: ["10.0.2.2"], enrolled: false } as const;
    const world = new World({
      seed: 11,
      faults: SLOW,
      createContext: simulationContext(11),
      material: simulatedMaterial,
      pods: [{ name: "client", node: "a", ips: ["10.0.1.1"], enrolled: true }, two],
    });
    const key = `${NAMESPACE}/web.${NAMESPACE}.svc.cluster.local`;
    const services = new Map([[key, new Map([[SERVICE_PORT, TARGET_PORT]])]]);
    const workload = (protocol: "HBONE" | "TCP") =>
      ({ kind: "workload", workload: workloadOf(two, { services, protocol }) }) as const;
    world.apply([{ kind: "service", service: serviceOf("web", [VIP]) }, workload("HBONE")]);
    const serverReactor = world.applicationReactor("two");
    let server: ApplicationPeer | undefined;
    const onAccept = (connection: Connection) => {
      server = new ApplicationPeer(serverReactor, BEHAVIOUR, 1_000_000);
      server.accepted(connection);
    };
    serverReactor.listen({ address: { ip: "::", port: TARGET_PORT } }, { onAccept, onAcceptError() {} });
    const reactor = world.applicationReactor("client");
    const client = new ApplicationPeer(reactor, BEHAVIOUR, 1);
    reactor.connect({ address: { ip, port } }, client);
    const node = world.nodes.get("a");
    assert.ok(node);
    const opening = () => [...node.reactor.connections].some(({ peer }) => peer.port === HBONE_PORT);
    world.network.run(30_000, opening);
    assert.ok(opening(), "a tunnel is being opened");
    if (news !== "nothing") world.apply([workload("TCP")]);
    world.network.run(30_000, () => client.over);
    world.close();
    return { client, server };
  };

  test(`a pod that leaves while it is connected to ${what} is reached all the same`, () => {
    const { client, server } = connect("it has left the mesh");
    assert.equal(client.state, "ended");
    assert.equal(server?.received, BEHAVIOUR.bytes);
  });

  test(`one that has not left is never reached in plaintext ${what}`, () => {
    const { client, server } = connect("nothing");
    assert.equal(client.state, "reset");
    assert.equal(server, undefined);
  });
}
