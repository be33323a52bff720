import fixtures from "./identities.json" with { type: "json" };
import type { IdentityMessage } from "../../apps/ztunnel/src/protocol.ts";

/** The simulation's clock starts here; its certificates are valid from before this until 2036. */
export const SIMULATION_EPOCH = Date.UTC(2027, 0, 1);
const NOT_AFTER = Date.UTC(2036, 0, 1);

/** Certificates that are the same in every run, so that a seed gives the same bytes: worth nothing outside the simulator. */
export function simulatedMaterial(uri: string): IdentityMessage {
  const identity = (fixtures.identities as Record<string, { certificate: string; key: string }>)[uri];
  if (identity === undefined) throw new Error(`the simulation has no certificate for ${uri}`);
  return {
    certificateChainPem: identity.certificate,
    privateKey: Uint8Array.from(Buffer.from(identity.key, "base64")),
    rootsPem: fixtures.roots,
    notAfter: NOT_AFTER,
  };
}
