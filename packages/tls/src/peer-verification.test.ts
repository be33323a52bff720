import assert from "node:assert/strict";
import { after, test } from "node:test";
import { MeshError } from "@tulle/base";
import { type IdentityMaterial, liveTlsObjects, TlsContext } from "./index.ts";
import { readAll, shakeHands } from "./testing/link.ts";
import { CLIENT_AUTH, copyOf, SERVER_AUTH, spiffe, TestCa } from "./testing/test-ca.ts";
import type { TlsErrorCode } from "./tls-error.ts";

const HOUR = 3_600_000;
const ca = TestCa.create();
const rogue = TestCa.create("rogue root");
const intermediate = ca.intermediate();

/** Certificates as one side may present them; the other side is right. `client` and `server` say what is expected there. */
const cases: readonly {
  readonly name: string;
  readonly material: IdentityMaterial;
  readonly asServer: "accepted" | TlsErrorCode;
  readonly asClient: "accepted" | TlsErrorCode;
  readonly text?: RegExp;
  /** What the refused side learns. */
  readonly alert?: string;
}[] = [
  {
    name: "the right certificate",
    material: ca.workload("peer"),
    asServer: "accepted",
    asClient: "accepted",
  },
  {
    name: "a certificate of an intermediate",
    material: intermediate.workload("peer"),
    asServer: "accepted",
    asClient: "accepted",
  },
  {
    name: "a certificate of a rogue CA",
    material: { ...rogue.workload("peer"), rootsPem: ca.rootPem },
    asServer: "UNKNOWN_CA",
    asClient: "UNKNOWN_CA",
    text: /issued by an unknown CA .*claims to be spiffe:\/\/cluster\.local\/ns\/default\/sa\/peer/,
    alert: "unknown_ca",
  },
  {
    name: "an intermediate's certificate without its chain",
    material: withoutChain(intermediate.workload("peer")),
    asServer: "UNKNOWN_CA",
    asClient: "UNKNOWN_CA",
    alert: "unknown_ca",
  },
  {
    name: "an expired certificate",
    material: ca.issue({ uris: [spiffe("peer")], notBefore: Date.now() - 2 * HOUR, notAfter: Date.now() - HOUR }),
    asServer: "CERTIFICATE_EXPIRED",
    asClient: "CERTIFICATE_EXPIRED",
    text: /it has expired \(\d{4}-\d\d-\d\dT/,
    alert: "certificate_expired",
  },
  {
    name: "a certificate that is not yet valid",
    material: ca.issue({ uris: [spiffe("peer")], notBefore: Date.now() + HOUR, notAfter: Date.now() + 2 * HOUR }),
    asServer: "CERTIFICATE_NOT_YET_VALID",
    asClient: "CERTIFICATE_NOT_YET_VALID",
    text: /not yet valid/,
    alert: "bad_certificate",
  },
  {
    name: "another service account",
    material: ca.workload("somebody-else"),
    asServer: "IDENTITY_MISMATCH",
    asClient: "accepted",
    text: /peer did not present the expected SAN \(.*\/sa\/peer\), got .*\/sa\/somebody-else$/,
    alert: "bad_certificate",
  },
  {
    name: "another trust domain",
    material: ca.workload("peer", "default", "elsewhere.example"),
    asServer: "IDENTITY_MISMATCH",
    asClient: "TRUST_DOMAIN_MISMATCH",
    alert: "bad_certificate",
  },
  {
    name: "a certificate without any name",
    material: ca.issue(),
    asServer: "IDENTITY_MISMATCH",
    asClient: "TRUST_DOMAIN_MISMATCH",
    text: /got no URI SAN/,
    alert: "bad_certificate",
  },
  {
    name: "an extended key usage for both sides",
    material: ca.issue({ uris: [spiffe("peer")], extendedKeyUsage: [SERVER_AUTH, CLIENT_AUTH] }),
    asServer: "accepted",
    asClient: "accepted",
  },
  {
    name: "an extended key usage for clients only",
    material: ca.issue({ uris: [spiffe("peer")], extendedKeyUsage: [CLIENT_AUTH] }),
    asServer: "BAD_PEER_CERTIFICATE",
    asClient: "accepted",
    alert: "unsupported_certificate",
  },
  {
    name: "an extended key usage for servers only",
    material: ca.issue({ uris: [spiffe("peer")], extendedKeyUsage: [SERVER_AUTH] }),
    asServer: "accepted",
    asClient: "BAD_PEER_CERTIFICATE",
    alert: "unsupported_certificate",
  },
];

after(() => assert.deepEqual(liveTlsObjects(), { context: 0, session: 0, output: 0, backlog: 0 }));

for (const { name, material, asServer, asClient, text, alert } of cases) {
  test(`a server with ${name}: ${asServer}`, () => {
    using right = TlsContext.create(ca.workload("judge"));
    using judged = TlsContext.create(copyOf(material));
    const client = right.client({ kind: "identities", uris: [spiffe("peer")] });
    const server = judged.server({ kind: "trust-domain", trustDomain: "cluster.local" });
    shakeHands(client, server);
    assertVerdict(client, asServer, text);
    // The server's own verdict: it is told why by an alert.
    if (asServer !== "accepted") assertVerdict(server, "PEER_ALERT", new RegExp(alert ?? "?"));
    else assert.equal(client.peer?.identity.serviceAccount, "peer");
    client.close();
    server.close();
  });

  test(`a client with ${name}: ${asClient}`, () => {
    using right = TlsContext.create(ca.workload("judge"));
    using judged = TlsContext.create(copyOf(material));
    const client = judged.client({ kind: "identities", uris: [spiffe("judge")] });
    const server = right.server({ kind: "trust-domain", trustDomain: "cluster.local" });
    shakeHands(client, server);
    assertVerdict(server, asClient, text);
    // In TLS 1.3 a client is done before the server has judged it: the verdict comes with its first read.
    assert.equal(client.state, "open");
    const { end } = readAll(client);
    if (asClient === "accepted") {
      assert.equal(end, -11);
      assert.equal(server.peer?.identity.serviceAccount, name === "another service account" ? "somebody-else" : "peer");
    } else {
      assert.equal(end, -1);
      assertVerdict(client, "PEER_ALERT", new RegExp(alert ?? "?"));
    }
    client.close();
    server.close();
  });
}

function assertVerdict(
  session: { readonly state: string; readonly error: Error | undefined; readonly peer: unknown },
  expected: "accepted" | TlsErrorCode,
  text?: RegExp,
): void {
  if (expected === "accepted") {
    assert.equal(session.error?.message, undefined);
    assert.equal(session.state, "open");
    return;
  }
  assert.equal(session.state, "failed");
  assert.ok(session.error instanceof MeshError);
  assert.equal(session.error.code, expected, session.error.message);
  assert.equal(session.peer, undefined);
  if (text !== undefined) assert.match(session.error.message, text);
}

function withoutChain(material: IdentityMaterial): IdentityMaterial {
  const [leaf] = material.certificateChainPem.split(/(?<=-----END CERTIFICATE-----\n)/);
  return { ...material, certificateChainPem: leaf as string };
}
