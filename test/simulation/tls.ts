import { type DeterministicTls, installDeterministicTls, TlsContext } from "@tulle/tls";
import type { CreateContext } from "../../apps/ztunnel/src/data/identity-store.ts";
import { SIMULATION_EPOCH } from "./identities.ts";

let deterministic: DeterministicTls | undefined;

/** The real TLS engine, with the seed's randomness; its certificates are judged at the simulation's date. */
export function simulationContext(seed: number): CreateContext {
  const wallClock = () => SIMULATION_EPOCH;
  if (deterministic === undefined) deterministic = installDeterministicTls(seed, wallClock);
  else deterministic.restart(seed, wallClock);
  return (material) => TlsContext.create(material);
}
