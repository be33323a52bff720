/** Where an API server is and how to prove who we are: made from the pod's service account or from a kubeconfig. */
export interface KubeConnection {
  /** `https://host:port`, possibly with a path; no slash at the end. */
  readonly server: string;
  /** For messages: `kubeconfig /root/.kube/config, context kind`. */
  readonly source: string;
  /** The namespace of the context or of the pod. */
  readonly namespace: string;
  readonly tls: KubeTls;
  /**
   * Value of the Authorization header; undefined when the client certificate is all there is. With `renew` the last value
   * was refused: read or fetch it anew. Rejects with StoreError.
   */
  authorization(renew: boolean): Promise<string | undefined>;
}

export interface KubeTls {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly servername?: string;
  /** False only when a kubeconfig says `insecure-skip-tls-verify`. */
  readonly rejectUnauthorized?: boolean;
}
