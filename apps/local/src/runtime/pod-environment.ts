import type { Log } from "@tulle/base";
import type { LabNamespace } from "@tulle/lab";
import type { AddressPair } from "../objects/addresses.ts";
import type { PodReport } from "../objects/cluster.ts";
import type { Pod } from "../objects/pod.ts";
import type { ResolvedContainer } from "../objects/pod-template.ts";
import type { Child } from "./child-process.ts";
import type { NodeForPods } from "./container-root.ts";
import type { Lan } from "./network.ts";

/** What a pod that runs on this machine needs of the rest. */

/** Puts a pod's traffic into the mesh and takes it out again; the node agent's part. */
export interface PodMesh {
  /**
   * Resolves when all traffic of the pod is captured and ztunnel serves it. `fresh`: nothing runs in the pod yet, so nothing
   * may leave it before that. Rejects with the reason; may be called again.
   */
  enrol(pod: Pod, namespace: LabNamespace, fresh: boolean): Promise<void>;
  /** Resolves when the pod's traffic is its own again. */
  withdraw(pod: Pod, namespace: LabNamespace): Promise<void>;
  /** The pod ends: its namespace goes away after this. Never rejects. */
  forget(pod: Pod): Promise<void>;
}

/** What gives a pod outside the mesh the service addresses; inside, ztunnel does. */
export interface ServiceAddresses {
  attach(podUid: string, namespace: LabNamespace): Promise<void>;
  detach(podUid: string): Promise<void>;
}

export interface RunnerEnvironment {
  readonly lan: Lan;
  readonly clusterDomain: string;
  readonly node: NodeForPods;
  readonly appFolder: string;
  /** An empty folder, and folders for the pods' files and logs. */
  readonly mountFolder: string;
  readonly podsFolder: string;
  readonly logsFolder: string;
  readonly mesh: PodMesh;
  readonly services: ServiceAddresses;
  readonly log: Log;
  /** Called with each process of a container that has a message channel. */
  readonly attach: ReadonlyMap<string, (child: Child) => void>;
}

export interface RunnerOptions {
  readonly pod: Pod;
  readonly containers: readonly ResolvedContainer[];
  readonly address: AddressPair;
  /** Name of the pod's end on the bridge. */
  readonly veth: string;
  readonly uid: number;
  readonly meshed: boolean;
  readonly report: PodReport;
}
