import type { Clock, Log } from "@tulle/base";
import type { Store } from "@tulle/store";
import type { Config } from "../config.ts";
import type { AuthoritySource } from "./authority-source.ts";
import { pluggedInAuthority } from "./plugged-in.ts";
import { selfSignedAuthority } from "./self-signed.ts";

/** The authority of the mesh: the one that is plugged in, else the mesh's own. */
export async function openAuthority(options: {
  readonly config: Config;
  readonly trustDomain: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<AuthoritySource> {
  const { config, trustDomain, store, clock, log } = options;
  const { defaultTtlMs, maxTtlMs, rootDirectory, selfSignedTtlMs } = config.ca;
  const authority = { clock, defaultTtlMs, maxTtlMs };
  const pluggedIn = await pluggedInAuthority({ directory: rootDirectory, authority, log });
  if (pluggedIn !== undefined) return pluggedIn;
  const { namespace } = config;
  return selfSignedAuthority({ store, namespace, trustDomain, rootTtlMs: selfSignedTtlMs, authority, log });
}
