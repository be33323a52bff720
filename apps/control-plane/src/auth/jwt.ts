import { readFile, stat } from "node:fs/promises";
import { messageOf } from "@tulle/base";
import { createLocalJWKSet, type JSONWebKeySet, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { type Authentication, type Authenticator, parseAccount } from "./authenticator.ts";

export interface JwtAuthenticatorOptions {
  /** A file with a JSON Web Key Set (RFC 7517) of public keys; looked at for each token, read when it has changed. */
  readonly jwks: string;
  /** The token's `aud` must hold one of them. */
  readonly audiences: readonly string[];
  /** Milliseconds since the epoch. */
  readonly wall?: () => number;
}

/** Keys that anybody may have are no proof: no symmetric algorithm. */
const ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA"];
/** Tokens live an hour at most; the rest is for clocks that differ. */
const MAX_LIFETIME_S = 3_600;
const TOLERANCE_S = 60;
/** A key set of a few keys. */
const MAX_JWKS_BYTES = 256 * 1024;

/**
 * Tokens of the local mesh: JWTs with the claims of Kubernetes' projected tokens, always bound to a pod, verified with
 * keys from a file.
 */
export class JwtAuthenticator implements Authenticator {
  readonly #options: JwtAuthenticatorOptions;
  #keys: { readonly key: JWTVerifyGetKey; readonly changed: number; readonly size: number } | undefined;

  constructor(options: JwtAuthenticatorOptions) {
    this.#options = options;
  }

  async authenticate(token: string): Promise<Authentication> {
    const { audiences, wall = Date.now } = this.#options;
    try {
      const currentDate = new Date(wall());
      const { payload } = await jwtVerify(token, await this.#load(), {
        audience: [...audiences],
        algorithms: ALGORITHMS,
        requiredClaims: ["exp", "iat", "sub", "aud"],
        clockTolerance: TOLERANCE_S,
        currentDate,
      });
      // An hour from its making, and no tolerance for what is over: a token's end is exact.
      const { exp = 0, iat = 0 } = payload;
      if (exp * 1000 <= currentDate.getTime()) return refuse("the token has expired");
      if (exp - iat > MAX_LIFETIME_S) return refuse(`the token is for ${exp - iat} s, more than an hour`);
      return callerOf(payload);
    } catch (error) {
      return refuse(`the token is not good: ${messageOf(error)}`);
    }
  }

  async #load(): Promise<JWTVerifyGetKey> {
    const { jwks } = this.#options;
    const { mtimeMs, size } = await stat(jwks);
    if (this.#keys?.changed === mtimeMs && this.#keys.size === size) return this.#keys.key;
    if (size > MAX_JWKS_BYTES) throw new Error(`the key set ${jwks} has more than ${MAX_JWKS_BYTES} bytes`);
    const key = createLocalJWKSet(JSON.parse(await readFile(jwks, "utf8")) as JSONWebKeySet);
    this.#keys = { key, changed: mtimeMs, size };
    return key;
  }
}

function callerOf(payload: JWTPayload): Authentication {
  const account = parseAccount(payload.sub);
  if (account === undefined) return refuse("the token's subject is not a service account");
  const claims = payload["kubernetes.io"];
  const namespace = textIn(claims, "namespace");
  const serviceAccount = textIn(claims, "serviceaccount", "name");
  const podName = textIn(claims, "pod", "name");
  const podUid = textIn(claims, "pod", "uid");
  if (namespace !== account.namespace || serviceAccount !== account.serviceAccount) {
    return refuse("the token's subject and its kubernetes.io claims name different accounts");
  }
  if (podName === undefined || podUid === undefined) return refuse("the token is not bound to a pod");
  const pod = { name: podName, uid: podUid };
  return { ok: true, caller: { ...account, pod, node: textIn(claims, "node", "name") } };
}

function textIn(value: unknown, ...path: readonly string[]): string | undefined {
  let current = value;
  for (const name of path) {
    if (typeof current !== "object" || current === null) return undefined;
    current = (current as Readonly<Record<string, unknown>>)[name];
  }
  return typeof current === "string" && current !== "" ? current : undefined;
}

function refuse(reason: string): Authentication {
  return { ok: false, reason };
}
