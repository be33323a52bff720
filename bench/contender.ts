import type { LabNamespace } from "@tulle/lab";

/** Where a contender runs: one namespace with the clients, one with the servers, joined by one link. */
export interface Place {
  readonly client: Side;
  readonly server: Side;
  /** A folder of its own, removed after the run. */
  readonly folder: string;
}

export interface Side {
  readonly namespace: LabNamespace;
  readonly ip: string;
  /** Holds cert-chain.pem, key.pem, root-cert.pem and workload.pem (key and chain) of this side's workload. */
  readonly certificates: string;
  /** `namespace/name/serviceaccount`. */
  readonly workload: string;
}

/** One way of getting from the client's namespace to the server's. */
export interface Contender {
  /** Short, for `--only` and the heads of columns. */
  readonly name: string;
  readonly title: string;
  /** What may be seen between the two sides: the connection as it is, a tunnel to 15008, or an encrypted one. Checked before measuring. */
  readonly wire: "direct" | "tunnel" | "encrypted tunnel";
  /** Resolves when connections from the client's namespace to any port of the server's address pass through it. */
  start(place: Place): Promise<RunningContender>;
}

export interface RunningContender {
  /** Processes whose CPU time and memory are the contender's: the client's side first. Empty for none. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}
