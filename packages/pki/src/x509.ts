import { webcrypto } from "node:crypto";

type X509 = typeof import("@peculiar/x509");

let loading: Promise<X509> | undefined;

/** Loads @peculiar/x509 when a part first needs it: 7 MB that only an authority pays for, not every proxy. */
export function loadX509(): Promise<X509> {
  loading ??= load();
  return loading;
}

async function load(): Promise<X509> {
  // The library registers its parts by reflection, so this comes first.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(webcrypto);
  return x509;
}
