import { createHash, randomBytes } from "node:crypto";
import { formatIdentity, type Identity } from "@tulle/base";
import type { Authentication, Authorization, Caller, CallerCredentials, CaPolicy } from "@tulle/pki";
import type { Objects } from "../objects/object-store.ts";
import { podIdentity, wantsMesh } from "../objects/pod.ts";

/** Where the mesh's own parts live, as in Istio. */
export const SYSTEM_NAMESPACE = "istio-system";
export const ZTUNNEL_ACCOUNT = "ztunnel";

const TOKEN_BYTES = 32;

export interface PolicyOptions {
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly objects: () => Objects;
}

/**
 * Who may ask the CA for what: a node's ztunnel, known by its token, may have a certificate of every identity that has an
 * enrolled pod on its node, and of no other.
 */
export class NodeCredentials implements CaPolicy {
  readonly #options: PolicyOptions;
  /** SHA-256 of the token → node, so that looking one up takes no time that depends on the token. */
  readonly #nodes = new Map<string, string>();

  constructor(options: PolicyOptions) {
    this.#options = options;
  }

  /** A new token of a node's ztunnel; earlier ones of the node are no longer good. */
  issue(node: string): string {
    for (const [hash, known] of this.#nodes) if (known === node) this.#nodes.delete(hash);
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    this.#nodes.set(hashOf(token), node);
    return token;
  }

  authenticate({ token, clusterId }: CallerCredentials): Promise<Authentication> {
    const refuse = (reason: string): Promise<Authentication> => Promise.resolve({ ok: false, reason });
    if (token === undefined) return refuse("there is no token");
    const node = this.#nodes.get(hashOf(token));
    if (node === undefined) return refuse("the token is not one of this mesh");
    if (clusterId !== undefined && clusterId !== this.#options.clusterId) {
      return refuse(`the token is of cluster ${this.#options.clusterId}, the request says ${clusterId}`);
    }
    const { trustDomain } = this.#options;
    const identity: Identity = { trustDomain, namespace: SYSTEM_NAMESPACE, serviceAccount: ZTUNNEL_ACCOUNT };
    return Promise.resolve({
      ok: true,
      caller: { identity, via: "token", pod: { name: ztunnelName(node), uid: node } },
    });
  }

  authorize(caller: Caller, identity: Identity): Promise<Authorization> {
    const node = caller.pod?.uid ?? "";
    const wanted = formatIdentity(identity);
    const { namespaces, pods } = this.#options.objects();
    const here = pods.filter(
      (pod) => pod.spec.nodeName === node && podIdentity(pod, this.#options.trustDomain) === wanted,
    );
    const labels = namespaces.find(({ metadata }) => metadata.name === identity.namespace)?.metadata.labels;
    const good = here.some(
      (pod) => pod.metadata.deletionTimestamp === undefined && wantsMesh(pod.metadata.labels, labels),
    );
    const why = here.length === 0 ? "there is no pod of it" : "no pod of it is in the mesh";
    return Promise.resolve(good ? { ok: true } : { ok: false, reason: `${wanted}: ${why} on node ${node}` });
  }
}

export function ztunnelName(node: string): string {
  return `${ZTUNNEL_ACCOUNT}-${node}`;
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
