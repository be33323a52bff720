import { readFile } from "node:fs/promises";
import { MeshError, messageOf } from "@tulle/base";

/** What a client proves itself with. Read anew for each request, because kubelet rotates it. */
export type TokenSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "literal"; readonly token: string }
  /** No authorization header at all. */
  | { readonly kind: "none" };

/** The token, or undefined for "none". Throws MeshError `NO_TOKEN` when the file is missing or empty. Never says what is in it. */
export async function readToken(source: TokenSource): Promise<string | undefined> {
  switch (source.kind) {
    case "none":
      return undefined;
    case "literal":
      return source.token;
    case "file": {
      const token = await readFile(source.path, "utf8").catch((error: unknown) => {
        throw missing(source.path, messageOf(error));
      });
      const trimmed = token.trim();
      if (trimmed === "") throw missing(source.path, "it is empty");
      return trimmed;
    }
    default:
      return source satisfies never;
  }
}

function missing(path: string, why: string): MeshError {
  return new MeshError(`cannot read the token file ${path}: ${why}`, { code: "NO_TOKEN", side: "internal" });
}
