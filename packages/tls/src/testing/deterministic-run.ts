import { createHash } from "node:crypto";
import { installDeterministicTls, TlsContext } from "../index.ts";
import { feedBytes, readAll, takeCiphertext, writeBytes } from "./link.ts";
import { spiffe, TestCa } from "./test-ca.ts";

/** A process of its own for the test of deterministic TLS: `node deterministic-run.ts SEED WALL_MS`; prints one JSON. */

export interface RunReport {
  readonly hash: string;
  readonly outcome: readonly string[];
}

export interface DeterministicReport {
  readonly first: RunReport;
  /** The same seed again in the same process. */
  readonly repeated: RunReport;
  readonly other: RunReport;
  /** What installing twice, and starting anew with a context alive, came to. */
  readonly refused: string;
  readonly alive: string;
}

const HOUR_MS = 3_600_000;
const [seed, wall] = process.argv.slice(2).map(Number) as [number, number];
const install = () => installDeterministicTls(seed, () => wall);
const deterministic = install();
const refused = attempt(install);
const first = run();
deterministic.restart(seed, () => wall);
const repeated = run();
deterministic.restart(seed + 1, () => wall);
const other = run();
const open = TlsContext.create(TestCa.create().workload("a"));
const alive = attempt(() => deterministic.restart(seed, () => wall));
open.close();
console.log(JSON.stringify({ first, repeated, other, refused, alive } satisfies DeterministicReport));

/** Three handshakes with data both ways; what they sent, as a hash. */
function run(): RunReport {
  const validity = { notBefore: wall - HOUR_MS, notAfter: wall + HOUR_MS };
  const ca = TestCa.create("simulated root", validity);
  const [client, server] = ["client", "server"].map((name) =>
    TlsContext.create(ca.issue({ uris: [spiffe(name)], ...validity })),
  ) as [TlsContext, TlsContext];
  const hash = createHash("sha256");
  const outcome: string[] = [];
  for (let i = 0; i < 3; i++) {
    const c = client.client({ kind: "identities", uris: [spiffe("server")] });
    const s = server.server({ kind: "trust-domain", trustDomain: "cluster.local" });
    for (let flight = 0; flight < 6; flight++) {
      const [from, to] = flight % 2 === 0 ? [c, s] : [s, c];
      from.handshake();
      if (from.state === "open" && to.state === "open") writeBytes(from, Buffer.from("application data"));
      const bytes = takeCiphertext(from);
      hash.update(bytes);
      feedBytes(to, bytes);
      to.handshake();
      readAll(to);
    }
    outcome.push(...[c, s].map((session) => session.error?.message ?? session.state));
    for (const session of [c, s]) session.close();
  }
  client.close();
  server.close();
  return { hash: hash.digest("hex"), outcome };
}

function attempt(action: () => unknown): string {
  try {
    action();
    return "accepted";
  } catch (error) {
    return String(error);
  }
}
