import { createHash } from "node:crypto";
import { installDeterministicTls, TlsContext } from "../index.ts";
import { feedBytes, readAll, takeCiphertext, writeBytes } from "./link.ts";
import { spiffe, TestCa } from "./test-ca.ts";

/** A process of its own for the test of deterministic TLS: `node deterministic-run.ts SEED WALL_MS`; prints one JSON. */

const [seed, wall] = process.argv.slice(2).map(Number) as [number, number];
const installAgain = () => installDeterministicTls(seed, () => wall);
installAgain();

const HOUR = 3_600_000;
const validity = { notBefore: wall - HOUR, notAfter: wall + HOUR };
const ca = TestCa.create("simulated root", validity);
const contexts = ["client", "server"].map((name) => TlsContext.create(ca.issue({ uris: [spiffe(name)], ...validity })));
const [client, server] = contexts as [TlsContext, TlsContext];
const hash = createHash("sha256");
const states: string[] = [];
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
  states.push(c.state, s.state, c.error?.message ?? "", s.error?.message ?? "");
  c.close();
  s.close();
}
let again = "";
try {
  installAgain();
} catch (error) {
  again = String(error);
}
console.log(JSON.stringify({ hash: hash.digest("hex"), states, again }));
