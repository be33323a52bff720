/** Who calls, and how a token shows it. */

/** A service account, and the pod that its token is bound to. */
export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Undefined: the token is bound to no pod. */
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
  /** Where the pod ran when the token was made; older API servers do not say. */
  readonly node: string | undefined;
}

/** `reason` is for the log: a caller never sees it. It never holds the token. */
export type Refusal = { readonly ok: false; readonly reason: string };
export type Authentication = { readonly ok: true; readonly caller: Caller } | Refusal;

/** Verifies a token: its signature, its time, its audience. Never rejects. */
export interface Authenticator {
  authenticate(token: string): Promise<Authentication>;
}

export interface CallCredentials {
  readonly token: string | undefined;
  /** The header `clusterid`. */
  readonly clusterId: string | undefined;
}

/** The largest token that is looked at; projected ones have about a kilobyte. */
const MAX_TOKEN_LENGTH = 16_384;
const ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

/**
 * Who makes a call: the token decides, and `clusterid`, if it is there, must name our own cluster (control-plane.md §4.1).
 * A client certificate is no proof here.
 */
export function authenticateCall(
  { token, clusterId }: CallCredentials,
  options: { readonly authenticator: Authenticator; readonly clusterId: string },
): Promise<Authentication> {
  const refuse = (reason: string): Promise<Authentication> => Promise.resolve({ ok: false, reason });
  if (token === undefined || token === "") return refuse("there is no bearer token");
  if (token.length > MAX_TOKEN_LENGTH) return refuse(`the token is longer than ${MAX_TOKEN_LENGTH} characters`);
  if (clusterId !== undefined && clusterId !== options.clusterId) {
    return refuse(`the header clusterid names the cluster ${quoted(clusterId)}, this is ${options.clusterId}`);
  }
  return options.authenticator.authenticate(token);
}

/** `system:serviceaccount:<namespace>:<name>`. */
export function parseAccount(
  subject: string | undefined,
): { readonly namespace: string; readonly serviceAccount: string } | undefined {
  const [, namespace, serviceAccount] = ACCOUNT.exec(subject ?? "") ?? [];
  return namespace === undefined || serviceAccount === undefined ? undefined : { namespace, serviceAccount };
}

/** `shop/cart in pod cart-1`: for the log. */
export function describeCaller({ namespace, serviceAccount, pod }: Caller): string {
  return `${namespace}/${serviceAccount}${pod === undefined ? "" : ` in pod ${pod.name}`}`;
}

/** A text that a stranger chose, for a line of the log. */
export function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 128));
}
