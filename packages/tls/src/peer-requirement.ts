import { type Identity, parseIdentity } from "@tulle/base";
import type { PeerRequirement } from "./contract.ts";

/** Why a peer was refused: a code of `TlsErrorCode` and the text for people. */
export interface Refusal {
  readonly code: "IDENTITY_MISMATCH" | "TRUST_DOMAIN_MISMATCH";
  readonly message: string;
}

/**
 * Whether a peer whose chain is valid may be who it says: its identity, or the refusal. `uris` are the leaf's URI SANs.
 * A client wants one of them to equal one of the URIs it expects; a server wants its own trust domain (spec: l4-ztunnel
 * §2.6). The identity is the first URI that parses as SPIFFE; without one nobody is let in.
 */
export function judgePeer(uris: readonly string[], requirement: PeerRequirement): Identity | Refusal {
  const identity = firstIdentity(uris);
  switch (requirement.kind) {
    case "identities": {
      const matches = uris.some((uri) => requirement.uris.includes(uri));
      if (matches && identity !== undefined) return identity;
      return refusal(
        "IDENTITY_MISMATCH",
        `peer did not present the expected SAN (${requirement.uris.join(", ")}), got ${list(uris)}`,
      );
    }
    case "trust-domain":
      if (identity !== undefined && identity.trustDomain === requirement.trustDomain) return identity;
      return refusal(
        "TRUST_DOMAIN_MISMATCH",
        `expected trustdomain (${requirement.trustDomain}), got ${identity?.trustDomain ?? list(uris)}`,
      );
    default:
      return requirement satisfies never;
  }
}

export function isRefusal(verdict: Identity | Refusal): verdict is Refusal {
  return "code" in verdict;
}

function firstIdentity(uris: readonly string[]): Identity | undefined {
  for (const uri of uris) {
    const identity = parseIdentity(uri);
    if (identity !== undefined) return identity;
  }
  return undefined;
}

function list(uris: readonly string[]): string {
  return uris.length === 0 ? "no URI SAN" : uris.join(", ");
}

function refusal(code: Refusal["code"], message: string): Refusal {
  return { code, message: `identity verification error: ${message}` };
}
