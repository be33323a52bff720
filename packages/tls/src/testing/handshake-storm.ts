import assert from "node:assert/strict";
import { runInNewContext } from "node:vm";
import { parentPort, workerData } from "node:worker_threads";
import { MeshError, type Random, seededRandom } from "@tulle/base";
import { ALPN_PROTOCOLS } from "../handshake-callbacks.ts";
import { liveTlsObjects, TlsContext, type TlsObjectKind, type TlsSession } from "../index.ts";
import { openssl } from "../openssl.ts";
import { OpenSslSession } from "../session.ts";
import { feedBytes, move, readAll, takeCiphertext, writeBytes } from "./link.ts";
import { spiffe, TestCa } from "./test-ca.ts";

/**
 * A thread that shakes hands, every second time with something going wrong: run as a worker by the test of leaks. Makes
 * half of its handshakes, reports, waits for any message, makes the rest and reports again.
 */

export interface StormInput {
  readonly seed: number;
  readonly handshakes: number;
}

export interface StormReport {
  readonly open: number;
  readonly failed: number;
  readonly cutShort: number;
  readonly live: Readonly<Record<TlsObjectKind, number>>;
}

type Outcome = "open" | "failed" | "cutShort";
type Ending =
  | "good"
  | "foreign-ca"
  | "expired"
  | "no-certificate"
  | "wrong-name"
  | "dropped"
  | "garbage"
  | "truncated"
  | "flipped";
const BROKEN: readonly Ending[] = [
  "foreign-ca",
  "expired",
  "no-certificate",
  "wrong-name",
  "dropped",
  "garbage",
  "truncated",
  "flipped",
];

class Peers {
  readonly #ca = TestCa.create();
  readonly server = TlsContext.create(this.#ca.workload("server"));
  readonly client = TlsContext.create(this.#ca.workload("client"));
  readonly foreign = TlsContext.create({ ...TestCa.create("foreign").workload("client"), rootsPem: this.#ca.rootPem });
  readonly expired = TlsContext.create(
    this.#ca.issue({ uris: [spiffe("client")], notBefore: Date.now() - 7_200_000, notAfter: Date.now() - 3_600_000 }),
  );
  readonly bare = bareContext();

  clientFor(ending: Ending): TlsSession {
    const requirement = { kind: "identities", uris: [spiffe(ending === "wrong-name" ? "other" : "server")] } as const;
    if (ending === "foreign-ca") return this.foreign.client(requirement);
    if (ending === "expired") return this.expired.client(requirement);
    if (ending === "no-certificate") return new OpenSslSession({ context: this.bare, isServer: false, requirement });
    return this.client.client(requirement);
  }

  close(): void {
    for (const context of [this.server, this.client, this.foreign, this.expired]) context.close();
    openssl().SSL_CTX_free(this.bare);
  }
}

/** A client's SSL_CTX without certificate, which `TlsContext` does not make. It looks at nothing that it is shown. */
function bareContext(): bigint {
  const ssl = openssl();
  const context = ssl.SSL_CTX_new(ssl.TLS_method());
  ssl.SSL_CTX_set_alpn_protos(context, ALPN_PROTOCOLS.pointer, ALPN_PROTOCOLS.length);
  ssl.SSL_CTX_set_verify(context, 0, 0n);
  return context;
}

function shakeHandsUntil(ending: Ending, peers: Peers, random: Random): Outcome {
  const client = peers.clientFor(ending);
  const server = peers.server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
  // Flights: hello, the server's, the client's finish, and a little data.
  const breakAt = Math.floor(random() * 4);
  for (let flight = 0; flight < 4; flight++) {
    const [from, to] = flight % 2 === 0 ? [client, server] : [server, client];
    from.handshake();
    if (from.state === "open" && to.state === "open") writeBytes(from, Buffer.alloc(100));
    if (flight === breakAt && isDamage(ending)) {
      if (ending === "dropped") break;
      feedBytes(to, damage(takeCiphertext(from), ending, random));
    } else {
      move(from, to);
    }
    to.handshake();
    if (to.state === "open") readAll(to, 1000);
  }
  const states = [client, server].map((session) => {
    assert.ok(session.error === undefined || session.error instanceof MeshError);
    return session.state;
  });
  // In any order, and with whatever is still waiting.
  const order = random() < 0.5 ? [client, server] : [server, client];
  for (const session of order) session.close();
  if (states.includes("failed")) return "failed";
  return ending === "good" && states.every((state) => state === "open") ? "open" : "cutShort";
}

function isDamage(ending: Ending): boolean {
  return ending === "dropped" || ending === "garbage" || ending === "truncated" || ending === "flipped";
}

function damage(bytes: Buffer, ending: Ending, random: Random): Buffer {
  const at = Math.floor(random() * bytes.length);
  switch (ending) {
    case "truncated":
      return bytes.subarray(0, at);
    case "garbage":
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(Array.from({ length: 64 }, () => random() * 256))]);
    default:
      if (bytes.length > 0) bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
      return bytes;
  }
}

const port = parentPort;
if (port !== null) {
  const { seed, handshakes } = workerData as StormInput;
  const random = seededRandom(seed);
  const collectGarbage = runInNewContext("gc") as () => void;
  const outcomes: Record<Outcome, number> = { open: 0, failed: 0, cutShort: 0 };
  const peers = new Peers();
  const run = () => {
    for (let i = 0; i < handshakes / 2; i++) {
      const ending = i % 2 === 0 ? "good" : (BROKEN[Math.floor(random() * BROKEN.length)] as Ending);
      outcomes[shakeHandsUntil(ending, peers, random)]++;
    }
  };
  const report = () => {
    collectGarbage();
    port.postMessage({ ...outcomes, live: liveTlsObjects() } satisfies StormReport);
  };
  run();
  report();
  port.once("message", () => {
    run();
    peers.close();
    report();
    port.close();
  });
}
