import { readFile } from "node:fs/promises";
import { rootCertificates } from "node:tls";
import { MeshError, messageOf } from "@tulle/base";

/** What a server's certificate is verified with. */
export type RootSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "pem"; readonly pem: string }
  /** The roots that came with Node. */
  | { readonly kind: "system" };

/** The roots in PEM. Throws MeshError `NO_ROOTS` when a file cannot be read or holds no certificate. */
export async function readRoots(source: RootSource): Promise<string[]> {
  switch (source.kind) {
    case "system":
      return [...rootCertificates];
    case "pem":
      return [checked(source.pem, "the given text")];
    case "file": {
      const pem = await readFile(source.path, "utf8").catch((error: unknown) => {
        throw unusable(source.path, messageOf(error));
      });
      return [checked(pem, source.path)];
    }
    default:
      return source satisfies never;
  }
}

/** Node would pass over a text without certificates and then trust nothing, with a less helpful error. */
function checked(pem: string, where: string): string {
  if (!pem.includes("-----BEGIN CERTIFICATE-----")) throw unusable(where, "there is no certificate in it");
  return pem;
}

function unusable(where: string, why: string): MeshError {
  return new MeshError(`cannot read root certificates from ${where}: ${why}`, { code: "NO_ROOTS", side: "internal" });
}
