import assert from "node:assert/strict";
import { test } from "node:test";
import type { PeerRequirement } from "./contract.ts";
import { isRefusal, judgePeer } from "./peer-requirement.ts";

const A = "spiffe://cluster.local/ns/default/sa/a";
const B = "spiffe://cluster.local/ns/default/sa/b";
const FOREIGN = "spiffe://elsewhere/ns/default/sa/a";
const oneOf = (...uris: string[]): PeerRequirement => ({ kind: "identities", uris });
const domain = (trustDomain: string): PeerRequirement => ({ kind: "trust-domain", trustDomain });

const PREFIX = "identity verification error: ";
const cases: readonly {
  readonly name: string;
  readonly uris: readonly string[];
  readonly requirement: PeerRequirement;
  readonly accepted?: string;
  readonly refused?: string;
}[] = [
  { name: "the expected identity", uris: [A], requirement: oneOf(A), accepted: "a" },
  { name: "one of several expected identities", uris: [B], requirement: oneOf(A, B), accepted: "b" },
  { name: "the expected URI as the second one", uris: [B, A], requirement: oneOf(A), accepted: "b" },
  {
    name: "another identity",
    uris: [B],
    requirement: oneOf(A),
    refused: `${PREFIX}peer did not present the expected SAN (${A}), got ${B}`,
  },
  {
    name: "an empty list of expected identities",
    uris: [A],
    requirement: oneOf(),
    refused: `${PREFIX}peer did not present the expected SAN (), got ${A}`,
  },
  {
    name: "no URI at all",
    uris: [],
    requirement: oneOf(A),
    refused: `${PREFIX}peer did not present the expected SAN (${A}), got no URI SAN`,
  },
  {
    name: "an expected URI that is no SPIFFE identity",
    uris: ["https://example.com/"],
    requirement: oneOf("https://example.com/"),
    refused: `${PREFIX}peer did not present the expected SAN (https://example.com/), got https://example.com/`,
  },
  {
    name: "the same URI in another case",
    uris: [A.toUpperCase()],
    requirement: oneOf(A),
    refused: `${PREFIX}peer did not present the expected SAN (${A}), got ${A.toUpperCase()}`,
  },
  { name: "the own trust domain", uris: [A], requirement: domain("cluster.local"), accepted: "a" },
  { name: "a first URI that is no identity", uris: ["urn:x", B], requirement: domain("cluster.local"), accepted: "b" },
  {
    name: "a foreign identity before one of the own trust domain",
    uris: [FOREIGN, A],
    requirement: domain("cluster.local"),
    refused: `${PREFIX}expected trustdomain (cluster.local), got elsewhere`,
  },
  {
    name: "a trust domain that only begins the same",
    uris: [A],
    requirement: domain("cluster"),
    refused: `${PREFIX}expected trustdomain (cluster), got cluster.local`,
  },
  {
    name: "no identity for a trust domain",
    uris: ["spiffe://cluster.local/x"],
    requirement: domain("cluster.local"),
    refused: `${PREFIX}expected trustdomain (cluster.local), got spiffe://cluster.local/x`,
  },
  {
    name: "an empty trust domain",
    uris: [A],
    requirement: domain(""),
    refused: `${PREFIX}expected trustdomain (), got cluster.local`,
  },
];

for (const { name, uris, requirement, accepted, refused } of cases) {
  test(`${name} is ${accepted === undefined ? "refused" : "accepted"} (${requirement.kind})`, () => {
    const verdict = judgePeer(uris, requirement);
    if (isRefusal(verdict)) assert.equal(verdict.message, refused);
    else assert.equal(verdict.serviceAccount, accepted);
  });
}
