import { hash } from "node:crypto";
import { messageOf } from "@tulle/base";
import { type Store, TOKEN_REVIEW, type TokenReview } from "@tulle/store";
import { decodeJwt } from "jose";
import { type Authentication, type Authenticator, parseAccount } from "./authenticator.ts";
import { AnswerCache } from "./answer-cache.ts";
import { Slots } from "./slots.ts";

export interface TokenReviewOptions {
  readonly store: Store;
  /** One of them must be the token's. */
  readonly audiences: readonly string[];
  /** Milliseconds since the epoch. */
  readonly wall?: () => number;
}

const API_VERSION = "authentication.k8s.io/v1";
const ACCOUNTS_GROUP = "system:serviceaccounts";
const POD_NAME = "authentication.kubernetes.io/pod-name";
const POD_UID = "authentication.kubernetes.io/pod-uid";
const NODE_NAME = "authentication.kubernetes.io/node-name";
/** How long a review is believed: an account or pod that is deleted is refused after this at the latest. */
const POSITIVE_TTL_MS = 60_000;
/** A bad token comes again and again; the API server shall not hear of each. */
const NEGATIVE_TTL_MS = 5_000;
const MAX_ANSWERS = 10_000;
/** Reviews under way at a time, and calls that wait for one; a further call is refused. */
const MAX_CONCURRENT = 16;
const MAX_WAITING = 1_000;

/** Tokens of a cluster: its API server says whose they are (TokenReview, control-plane.md §4.1). */
export class TokenReviewAuthenticator implements Authenticator {
  readonly #options: TokenReviewOptions;
  readonly #wall: () => number;
  readonly #answers: AnswerCache<Authentication>;
  readonly #slots = new Slots({ slots: MAX_CONCURRENT, waiting: MAX_WAITING });
  readonly #underWay = new Map<string, Promise<Authentication>>();

  constructor(options: TokenReviewOptions) {
    this.#options = options;
    this.#wall = options.wall ?? Date.now;
    this.#answers = new AnswerCache({ max: MAX_ANSWERS, wall: this.#wall });
  }

  async authenticate(token: string): Promise<Authentication> {
    const key = hash("sha256", token);
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const expires = expiryOf(token);
    if (typeof expires === "string") return { ok: false, reason: expires };
    if (expires <= this.#wall()) return { ok: false, reason: "the token has expired" };
    let review = this.#underWay.get(key);
    if (review === undefined) {
      review = this.#review(key, token, expires).finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, review);
    }
    return review;
  }

  async #review(key: string, token: string, expires: number): Promise<Authentication> {
    const { store, audiences } = this.#options;
    try {
      const review = await this.#slots.run(() =>
        store.create<TokenReview>(TOKEN_REVIEW, {
          apiVersion: API_VERSION,
          kind: "TokenReview",
          metadata: { name: "" },
          spec: { token, audiences },
        }),
      );
      const answer = callerOf(review, audiences);
      const now = this.#wall();
      const until = answer.ok ? Math.min(now + POSITIVE_TTL_MS, expires) : now + NEGATIVE_TTL_MS;
      this.#answers.set(key, answer, until);
      return answer;
    } catch (error) {
      // Not remembered: it says nothing about the token.
      return { ok: false, reason: `the API server cannot review the token: ${messageOf(error)}` };
    }
  }
}

/** Milliseconds since the epoch, as the token itself says; a reason when it is no JWT. Saves the API server what cannot be good. */
function expiryOf(token: string): number | string {
  try {
    const { exp } = decodeJwt(token);
    return exp === undefined ? "the token never expires" : exp * 1000;
  } catch {
    return "the token is not a JSON Web Token";
  }
}

function callerOf({ status }: TokenReview, audiences: readonly string[]): Authentication {
  const refuse = (reason: string): Authentication => ({ ok: false, reason });
  if (status?.authenticated !== true) {
    return refuse(`the API server does not accept the token: ${status?.error ?? "no reason given"}`);
  }
  if (status.audiences?.some((audience) => audiences.includes(audience)) !== true) {
    return refuse(`the token is not for ${audiences.join(" or ")}`);
  }
  const { username, groups = [], extra = {} } = status.user ?? {};
  const account = parseAccount(username);
  if (account === undefined || !groups.includes(ACCOUNTS_GROUP)) return refuse("the token is not a service account's");
  const [name] = extra[POD_NAME] ?? [];
  const [uid] = extra[POD_UID] ?? [];
  const pod = name === undefined || uid === undefined ? undefined : { name, uid };
  return { ok: true, caller: { ...account, pod, node: extra[NODE_NAME]?.[0] } };
}
