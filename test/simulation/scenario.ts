import { type Random, seededRandom } from "@tulle/base";
import { CALM, type NetworkFaults } from "@tulle/reactor";
import type { CreateContext } from "../../apps/ztunnel/src/data/identity-store.ts";
import { ApplicationPeer, drawBehaviour, MARKER } from "./application.ts";
import { simulatedMaterial } from "./identities.ts";
import { allowOnly, NAMESPACE, SERVICE_PORT, serviceOf, TARGET_PORT, World, workloadOf } from "./world.ts";

/** What one seed did. */
export interface ScenarioResult {
  readonly seed: number;
  /** Broken invariants; empty: all held. */
  readonly violations: readonly string[];
  /** SHA-256 over every byte and event. */
  readonly digest: string;
  readonly connections: number;
  /** Connections that came to an orderly end, with all their bytes. */
  readonly ended: number;
  /** Application bytes that arrived. */
  readonly bytes: number;
  readonly events: number;
  readonly virtualMs: number;
}

/** Virtual time after which everything must have come to an end. */
const PATIENCE_MS = 600_000;
/** Streams of clients are numbered from 0, those of servers from here. */
const FIRST_SERVER_STREAM = 1_000_000;
const VIPS = ["10.96.0.10", "fd00:96::10"];

interface Attempt {
  readonly from: string;
  readonly to: string;
  readonly client: ApplicationPeer;
}

/**
 * One run of the whole data path on one seed: pods on two nodes, connections by service, by pod address and to and from
 * pods without a proxy, a network as hostile as the seed says, policies that change meanwhile. `sabotage` breaks something
 * on purpose, to show that the invariants see it.
 */
export function runScenario(
  seed: number,
  createContext: CreateContext,
  sabotage: (world: World) => void = () => {},
): ScenarioResult {
  // Its own generator, so that the scenario does not depend on how often the network draws.
  const random = seededRandom(seed ^ 0x5eed);
  const hostile = random() < 0.7;
  const violations: string[] = [];
  const world = new World({
    seed,
    faults: hostile ? drawFaults(random) : CALM,
    createContext,
    material: simulatedMaterial,
    pods: [
      { name: "client", node: "a", ips: ["10.0.1.1", "fd00:1::1"], enrolled: true },
      { name: "one", node: "a", ips: ["10.0.1.2", "fd00:1::2"], enrolled: true },
      { name: "two", node: "b", ips: ["10.0.2.2", "fd00:2::2"], enrolled: true },
      { name: "plain", node: "b", ips: ["10.0.2.3", "fd00:2::3"], enrolled: false },
    ],
  });
  const service = serviceOf("web", VIPS);
  world.apply([{ kind: "service", service }]);
  for (const name of ["one", "two"]) joinService(world, name);
  watchForPlaintext(world, violations);
  sabotage(world);

  const attempts: Attempt[] = [];
  const servers = new Map<string, ApplicationPeer[]>();
  for (const name of ["one", "two", "plain"]) serve(world, name, random, hostile, servers);
  const total = 1 + Math.floor(random() * 12);
  for (let i = 0; i < total; i++) {
    world.network.schedule(random() * 200, () => attempts.push(dial(world, i, random, hostile)));
  }
  const flips = random() < 0.5;
  if (flips) flipPolicies(world, random);
  if (hostile && random() < 0.3) partition(world, random);

  const finished = world.network.run(PATIENCE_MS, () => {
    return attempts.length === total && attempts.every(({ client }) => client.over) && allOver(servers);
  });
  if (!finished) violations.push(`not everything ended within ${PATIENCE_MS / 1000} s of virtual time`);
  checkApplications(attempts, servers, hostile || flips, violations);
  // What is half-open is noticed by PING within 20 s; pools and timers may stay.
  world.network.run(60_000, () => false);
  checkLeftovers(world, violations);
  violations.push(...world.failures);
  const ended = attempts.filter(({ client }) => client.state === "ended").length;
  const peers = [...attempts.map(({ client }) => client), ...[...servers.values()].flat()];
  const bytes = peers.reduce((sum, peer) => sum + peer.received, 0);
  return { seed, violations, connections: total, ended, bytes, ...finish(world) };
}

function drawFaults(random: Random): NetworkFaults {
  return {
    minLatencyMs: 0.05,
    maxLatencyMs: 1 + random() * 40,
    maxSegment: [64, 1460, 16_384, 65_536][Math.floor(random() * 4)] ?? 1460,
    capacity: 4096 + Math.floor(random() * 262_144),
    shortReads: random() * 0.5,
    shortWrites: random() * 0.5,
    resets: random() < 0.3 ? random() * 0.01 : 0,
    connectFailures: random() < 0.3 ? random() * 0.2 : 0,
    acceptFailures: random() < 0.3 ? random() * 0.2 : 0,
    datagramLoss: 0,
  };
}

function joinService(world: World, name: string): void {
  const pod = world.pods.get(name)?.pod;
  if (pod === undefined) return;
  const services = new Map([
    [`${NAMESPACE}/web.${NAMESPACE}.svc.cluster.local`, new Map([[SERVICE_PORT, TARGET_PORT]])],
  ]);
  world.apply([{ kind: "workload", workload: workloadOf(pod, { services }) }]);
}

/** No application byte may leave one pod for another in the clear, unless one of the two has no proxy. */
function watchForPlaintext(world: World, violations: string[]): void {
  world.network.onSegment = (from, to, bytes) => {
    if (from === to) return;
    const both = from.capture !== undefined && to.capture !== undefined;
    if (both && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(MARKER)) {
      violations.push(`plaintext from ${from.key} to ${to.key}`);
    }
  };
}

/** Streams are named by the client's address, which the server sees too: it is preserved. */
function serve(
  world: World,
  name: string,
  random: Random,
  hostile: boolean,
  servers: Map<string, ApplicationPeer[]>,
): void {
  const reactor = world.applicationReactor(name);
  const peers: ApplicationPeer[] = [];
  servers.set(name, peers);
  reactor.listen(
    { address: { ip: "::", port: TARGET_PORT } },
    {
      onAccept: (connection) => {
        const behaviour = { ...drawBehaviour(random, hostile), finish: "when-sent" as const };
        const peer = new ApplicationPeer(reactor, behaviour, FIRST_SERVER_STREAM + peers.length);
        peers.push(peer);
        peer.accepted(connection);
      },
      onAcceptError: () => {},
    },
  );
}

function dial(world: World, index: number, random: Random, hostile: boolean): Attempt {
  const from = random() < 0.85 ? "client" : "plain";
  const v6 = random() < 0.4;
  const choice = random();
  const [to, address] =
    choice < 0.5 && from !== "plain" // nothing translates service addresses for a pod without a proxy
      ? ["web", { ip: VIPS[v6 ? 1 : 0] ?? "", port: SERVICE_PORT }]
      : choice < 0.9 || from === "plain"
        ? ["two", world.address("two", TARGET_PORT, v6)]
        : ["plain", world.address("plain", TARGET_PORT, v6)];
  const reactor = world.applicationReactor(from);
  const client = new ApplicationPeer(reactor, drawBehaviour(random, hostile), index);
  world.network.record("dial", `${index} ${from} ${to}`);
  reactor.connect({ address }, client);
  return { from, to, client };
}

/** Policies come and go; what they forbid is cut, what they allow goes on. */
function flipPolicies(world: World, random: Random): void {
  const flips = 1 + Math.floor(random() * 6);
  for (let i = 0; i < flips; i++) {
    world.network.schedule(random() * 500, () => {
      const policy = allowOnly("gate", i % 2 === 0 ? ["other"] : ["client"]);
      world.apply([random() < 0.3 ? { kind: "remove-policy", key: `${NAMESPACE}/gate` } : { kind: "policy", policy }]);
    });
  }
}

function partition(world: World, random: Random): void {
  const client = world.pods.get("client")?.namespace;
  const two = world.pods.get("two")?.namespace;
  if (client === undefined || two === undefined) return;
  world.network.schedule(random() * 300, () => world.network.partition(client, two, random() * 30_000));
}

function allOver(servers: Map<string, ApplicationPeer[]>): boolean {
  return [...servers.values()].every((peers) => peers.every((peer) => peer.over));
}

function checkApplications(
  attempts: readonly Attempt[],
  servers: Map<string, ApplicationPeer[]>,
  disturbed: boolean,
  violations: string[],
): void {
  for (const { client, from, to } of attempts) {
    if (client.violation !== undefined) violations.push(`client ${from}: ${client.violation}`);
    if (!client.over) violations.push(`a connection from ${from} to ${to} hangs in state ${client.state}`);
  }
  for (const [name, peers] of servers) {
    for (const peer of peers) if (peer.violation !== undefined) violations.push(`server ${name}: ${peer.violation}`);
  }
  if (disturbed) return;
  for (const { client, from, to } of attempts) {
    if (client.state !== "ended")
      violations.push(`on a calm network a connection from ${from} to ${to} was ${client.state}`);
  }
  const all = [...servers.values()].flat();
  const sum = (peers: readonly ApplicationPeer[], of: "sent" | "received") =>
    peers.reduce((n, peer) => n + peer[of], 0);
  const clients = attempts.map(({ client }) => client);
  if (sum(clients, "sent") !== sum(all, "received") || sum(all, "sent") !== sum(clients, "received")) {
    violations.push("on a calm network bytes were lost");
  }
}

function checkLeftovers(world: World, violations: string[]): void {
  for (const name of world.pods.keys()) {
    const budget = world.budget(name);
    if (budget.connections !== 0) violations.push(`${budget.connections} connections of ${name} are still counted`);
    if (budget.bufferedBytes !== 0) violations.push(`${budget.bufferedBytes} bytes of ${name} are still buffered`);
  }
  for (const { name, reactor } of world.nodes.values()) {
    if (reactor.faults > 0) violations.push(`${reactor.faults} handlers threw on node ${name}`);
  }
}

function finish(world: World): { digest: string; events: number; virtualMs: number } {
  const { network } = world;
  world.close();
  network.run(1000, () => false);
  for (const { name, reactor } of world.nodes.values()) {
    const { listeners, connections, datagrams } = reactor.open;
    if (listeners + connections + datagrams > 0) throw new Error(`node ${name} leaves sockets open`);
  }
  return { digest: network.digest(), events: network.eventCount, virtualMs: network.now };
}
