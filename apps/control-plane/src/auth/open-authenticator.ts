import type { Store } from "@tulle/store";
import type { AuthConfig } from "../config.ts";
import type { Authenticator } from "./authenticator.ts";
import { JwtAuthenticator } from "./jwt.ts";
import { TokenReviewAuthenticator } from "./token-review.ts";

/** Tokens are judged by the API server, or with keys from a file where there is none. */
export function openAuthenticator({ jwks, audiences }: AuthConfig, store: Store): Authenticator {
  return jwks === undefined
    ? new TokenReviewAuthenticator({ store, audiences })
    : new JwtAuthenticator({ jwks, audiences });
}
