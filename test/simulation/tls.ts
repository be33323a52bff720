import { TlsContext } from "@tulle/tls";
import type { CreateContext } from "../../apps/ztunnel/src/data/identity-store.ts";

/** The real TLS engine, on simulated time and randomness. */
export function simulationContext(_seed: number): CreateContext {
  return (material) => TlsContext.create(material);
}
