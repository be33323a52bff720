import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Log, messageOf, TOKEN_AUDIENCE } from "@tulle/base";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";

/** The tokens of the mesh's own pods, as an API server would project them: bound to a pod, good for an hour. */

/** A pod and the account that it runs under. */
export interface TokenSubject {
  readonly namespace: string;
  readonly serviceAccount: { readonly name: string; readonly uid: string };
  readonly pod: { readonly name: string; readonly uid: string };
  readonly node: string;
}

const ALGORITHM = "ES256";
/** The control plane takes no token that is good for longer. */
const TTL_SECONDS = 3600;
/** As the kubelet: long before it ends. Timers stop while a machine sleeps, so it is also looked at more often. */
const RENEW_AFTER_MS = (TTL_SECONDS / 2) * 1000;
const LOOK_MS = 60_000;
const ISSUER = "https://tulle.local";

export class TokenIssuer {
  /** File of public keys (RFC 7517) for whoever verifies. */
  readonly jwksPath: string;
  readonly #key: CryptoKey | Uint8Array;
  readonly #keyId: string;

  private constructor(jwksPath: string, key: CryptoKey | Uint8Array, keyId: string) {
    this.jwksPath = jwksPath;
    this.#key = key;
    this.#keyId = keyId;
  }

  /** The key in `folder` (0700), which is made when there is none. */
  static async open(folder: string): Promise<TokenIssuer> {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
    const [keyPath, jwksPath] = [join(folder, "token-key.json"), join(folder, "jwks.json")];
    if (!existsSync(keyPath)) {
      const { privateKey } = await generateKeyPair(ALGORITHM, { extractable: true });
      replaceFile(keyPath, JSON.stringify(await exportJWK(privateKey)), 0o600);
    }
    const jwk = JSON.parse(readFileSync(keyPath, "utf8")) as JWK;
    const kid = await calculateJwkThumbprint(jwk);
    const { d: _private, ...publicKey } = jwk;
    replaceFile(jwksPath, JSON.stringify({ keys: [{ ...publicKey, kid, alg: ALGORITHM, use: "sig" }] }), 0o600);
    return new TokenIssuer(jwksPath, await importJWK(jwk, ALGORITHM), kid);
  }

  /** `now`: Unix milliseconds. */
  issue(subject: TokenSubject, now: number): Promise<string> {
    const { namespace, serviceAccount, pod, node } = subject;
    const seconds = Math.floor(now / 1000);
    return new SignJWT({ "kubernetes.io": { namespace, serviceaccount: serviceAccount, pod, node: { name: node } } })
      .setProtectedHeader({ alg: ALGORITHM, kid: this.#keyId })
      .setIssuer(ISSUER)
      .setAudience([TOKEN_AUDIENCE])
      .setSubject(`system:serviceaccount:${namespace}:${serviceAccount.name}`)
      .setIssuedAt(seconds)
      .setNotBefore(seconds)
      .setExpirationTime(seconds + TTL_SECONDS)
      .sign(this.#key);
  }
}

/** A pod's token in its file, renewed in time. */
export class TokenFile implements Disposable {
  readonly #timer: NodeJS.Timeout;

  private constructor(timer: NodeJS.Timeout) {
    this.#timer = timer;
  }

  /** The file is there when it resolves. */
  static async write(issuer: TokenIssuer, subject: TokenSubject, path: string, log: Log): Promise<TokenFile> {
    let issued = 0;
    const renew = async () => {
      const now = Date.now();
      replaceFile(path, await issuer.issue(subject, now), 0o600);
      issued = now;
    };
    await renew();
    const look = () => {
      // A clock that was put back counts too.
      if (Math.abs(Date.now() - issued) < RENEW_AFTER_MS) return;
      renew().catch((error: unknown) =>
        log.warn(`the token of ${subject.pod.name} is not renewed: ${messageOf(error)}`),
      );
    };
    const timer = setInterval(look, LOOK_MS);
    timer.unref();
    return new TokenFile(timer);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Readers see the old content or the new one. */
export function replaceFile(path: string, text: string, mode: number): void {
  const draft = `${path}.new`;
  writeFileSync(draft, text, { mode });
  renameSync(draft, path);
}
