import type { Log } from "@tulle/base";
import type { LabNamespace } from "@tulle/lab";
import type { PodStart } from "../objects/scheduler.ts";
import type { Child } from "./child-process.ts";
import type { NewSandbox } from "./cni.ts";
import type { NodeForPods } from "./container-root.ts";
import type { Lan } from "./network.ts";

/** What a pod that runs on this machine needs of the rest. */

/** What gives a pod the service addresses, where ztunnel does not. */
export interface ServiceAddresses {
  attach(podUid: string, namespace: LabNamespace): Promise<void>;
  /** The namespace is about to go. */
  detach(podUid: string): void;
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
  /** Asks a node's agent whether a pod may start, once there is one. Rejects with the reason. */
  readonly admit: (node: string, sandbox: NewSandbox, signal: AbortSignal) => Promise<void>;
  readonly services: ServiceAddresses;
  readonly log: Log;
  /** Called with each process of a container that has a message channel. */
  readonly attach: ReadonlyMap<string, (child: Child) => void>;
}

export interface RunnerOptions extends Omit<PodStart, "serial"> {
  /** Name of the pod's end on the bridge. */
  readonly veth: string;
  readonly uid: number;
}
