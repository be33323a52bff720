import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { ca } from "@tulle/api";
import { formatIdentity, type Identity, type Log, MeshError, messageOf, parseIdentity } from "@tulle/base";
import type { CertificateAuthority } from "./authority.ts";
import { type CertificateRequest, parseCsr } from "./csr.ts";
import { type GrpcPeer, grpcPeer } from "./grpc-server.ts";

/** What a caller has shown of itself. */
export interface CallerCredentials {
  /** From `authorization: Bearer …`; undefined without one. */
  readonly token: string | undefined;
  /** From `clusterid`. */
  readonly clusterId: string | undefined;
  readonly peer: GrpcPeer;
}

export interface Caller {
  readonly identity: Identity;
  /** Whether the proof was a token or a client certificate: only a token may stand for a node. */
  readonly via: "token" | "certificate";
  readonly clusterId?: string;
  /** From a token that is bound to a pod. */
  readonly pod?: { readonly name: string; readonly uid: string };
  /** From the same token: where that pod ran. */
  readonly node?: string;
}

/** `reason` is for the log: a caller never sees it. */
export type Refusal = { readonly ok: false; readonly reason: string };
export type Authentication = { readonly ok: true; readonly caller: Caller } | Refusal;
export type Authorization = { readonly ok: true } | Refusal;

export interface CaPolicy {
  /** Who is calling? */
  authenticate(credentials: CallerCredentials): Promise<Authentication>;
  /** May this caller have a certificate of an identity that is not its own? */
  authorize(caller: Caller, identity: Identity, csr: CertificateRequest): Promise<Authorization>;
}

/** How a request ended, for metrics. */
export type CaOutcome = "issued" | "unauthenticated" | "bad-csr" | "refused" | "not-signed" | "overload";

export interface CaServiceOptions {
  /** Looked at for each request, so that an authority can be replaced. */
  readonly authority: () => CertificateAuthority;
  readonly policy: CaPolicy;
  readonly log: Log;
  readonly onOutcome?: (outcome: CaOutcome) => void;
}

/** A request is a CSR and a few names. */
const MAX_REQUEST_BYTES = 64 * 1024;
/** Requests at work at a time; more are told to come again. One takes a few milliseconds of a core. */
const MAX_CONCURRENT = 1_000;

/**
 * `CreateCertificate`: whom the certificate names is decided by the caller's proof and the policy, never by the CSR. A
 * caller gets an opaque refusal, the log the precise reason. Spec: control-plane §4.1.
 */
export class CaService {
  readonly #options: CaServiceOptions;
  #running = 0;

  constructor(options: CaServiceOptions) {
    this.#options = options;
  }

  register(router: ConnectRouter): void {
    router.service(
      ca.IstioCertificateService,
      { createCertificate: (request, context) => this.#bounded(request, context) },
      { readMaxBytes: MAX_REQUEST_BYTES },
    );
  }

  async #bounded(request: ca.IstioCertificateRequest, context: HandlerContext) {
    if (this.#running >= MAX_CONCURRENT) {
      this.#options.onOutcome?.("overload");
      throw new ConnectError("too many certificate requests", Code.ResourceExhausted);
    }
    this.#running++;
    try {
      return await this.#create(request, context);
    } finally {
      this.#running--;
    }
  }

  async #create(request: ca.IstioCertificateRequest, context: HandlerContext) {
    const { log, onOutcome } = this.#options;
    const peer = grpcPeer(context);
    const caller = await this.#authenticate(context, peer);
    peer.authenticated?.();
    const wanted = request.metadata?.["ImpersonatedIdentity"];
    const fields = {
      peer: peer.address,
      caller: formatIdentity(caller.identity),
      identity: typeof wanted === "string" ? wanted : "",
    };
    const csr = await parseCsr(request.csr).catch((error: unknown) => {
      log.warn("certificate request refused", { ...fields, reason: messageOf(error) });
      onOutcome?.("bad-csr");
      throw signingError(error);
    });
    const identity = await this.#identityFor(caller, wanted, csr).catch((error: unknown) => {
      log.warn("certificate request refused", { ...fields, reason: messageOf(error) });
      onOutcome?.("refused");
      throw new ConnectError("request impersonation authentication failure", Code.Unauthenticated);
    });
    try {
      const issued = await this.#options.authority().issue({
        spki: csr.spki,
        uris: [formatIdentity(identity)],
        ttlMs: Number(request.validityDuration) * 1000,
      });
      log.debug("certificate issued", { ...fields, expires: new Date(issued.notAfter).toISOString() });
      onOutcome?.("issued");
      return { certChain: [...issued.chain, issued.rootsPem] };
    } catch (error) {
      onOutcome?.("not-signed");
      log.error("certificate not issued", { ...fields, reason: messageOf(error) });
      throw signingError(error);
    }
  }

  async #authenticate(context: HandlerContext, peer: GrpcPeer): Promise<Caller> {
    const credentials = credentialsOf(context, peer);
    const result = await this.#options.policy
      .authenticate(credentials)
      .catch((error: unknown): Refusal => ({ ok: false, reason: messageOf(error) }));
    if (result.ok) return result.caller;
    this.#options.log.warn("certificate request refused", { peer: peer.address, reason: result.reason });
    this.#options.onOutcome?.("unauthenticated");
    throw new ConnectError("request authenticate failure", Code.Unauthenticated);
  }

  /** Throws with the reason of a refusal. */
  async #identityFor(caller: Caller, wanted: unknown, csr: CertificateRequest): Promise<Identity> {
    if (wanted === undefined) return caller.identity;
    const identity = typeof wanted === "string" ? parseIdentity(wanted) : undefined;
    if (identity === undefined) throw new Error("the impersonated identity is not spiffe://<domain>/ns/<ns>/sa/<sa>");
    const result = await this.#options.policy.authorize(caller, identity, csr);
    if (!result.ok) throw new Error(result.reason);
    return identity;
  }
}

/** The proof in a call's headers and connection; for the discovery service too. */
export function credentialsOf(context: HandlerContext, peer: GrpcPeer = grpcPeer(context)): CallerCredentials {
  const header = context.requestHeader.get("authorization") ?? "";
  return {
    token: header.startsWith("Bearer ") ? header.slice("Bearer ".length) : undefined,
    clusterId: context.requestHeader.get("clusterid") ?? undefined,
    peer,
  };
}

function signingError(error: unknown): ConnectError {
  const theirs = error instanceof MeshError && error.side === "downstream";
  const text = theirs ? messageOf(error) : "the authority cannot sign now";
  return new ConnectError(`CSR signing error (${text})`, theirs ? Code.InvalidArgument : Code.Internal);
}
