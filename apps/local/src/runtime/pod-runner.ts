import { rmSync } from "node:fs";
import { join } from "node:path";
import { Backoff, type Log, messageOf, sleep } from "@tulle/base";
import { LabNamespace } from "@tulle/lab";
import type { AddressPair } from "../objects/addresses.ts";
import type { PodHandle, PodReport, ResolvedContainer } from "../objects/cluster.ts";
import {
  type ContainerStatus,
  type Pod,
  type PodCondition,
  REDIRECTION_ANNOTATION,
  withAnnotation,
  withStatus,
} from "../objects/pod.ts";
import type { Child } from "./child-process.ts";
import { Container } from "./container.ts";
import { type NodeForPods, writeEtc } from "./container-root.ts";
import { LogFile } from "./log-file.ts";
import { attach, deleteLink, type Lan } from "./network.ts";
import { runProbe, watchProbe } from "./probe.ts";

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

/** How soon a step that failed (a rule, an acknowledgement) is tried again. */
const RETRY_INITIAL_MS = 200;
const RETRY_MAX_MS = 5000;

/** A launcher takes about this long to build a pod's root. */
const PID_POLL_MS = 100;

/** Plays kubelet for one pod: namespace, enrolment, processes, readiness, and the way back. */
export class PodRunner implements PodHandle {
  readonly #environment: RunnerEnvironment;
  readonly #options: RunnerOptions;
  readonly #stopping = new AbortController();
  readonly #containers = new Map<string, { readonly container: Container; ready: boolean; reason: string }>();
  readonly #log: Log;
  #namespace: LabNamespace | undefined;
  #meshWanted: boolean;
  #meshed: boolean | undefined;
  #problem = "";
  #wake: () => void = () => {};
  /** Resolves when nothing of the pod is left; never rejects. */
  readonly ended: Promise<void>;

  constructor(environment: RunnerEnvironment, options: RunnerOptions) {
    this.#environment = environment;
    this.#options = options;
    this.#meshWanted = options.meshed;
    this.#log = environment.log.scope("pod");
    this.ended = this.#run().catch((error) => this.#log.error(`${this.#name}: ${messageOf(error)}`));
  }

  get #name(): string {
    const { namespace, name } = this.#options.pod.metadata;
    return `${namespace}/${name}`;
  }

  /** Of the pod's network namespace, for `ip netns exec`; undefined before it is made. */
  get namespaceName(): string | undefined {
    return this.#namespace?.name;
  }

  setMeshed(wanted: boolean): void {
    this.#meshWanted = wanted;
    this.#wake();
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await Promise.all([...this.#containers.values()].map(({ container }) => container.stop(graceMs)));
    await this.ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await this.#retry("network", () => this.#createSandbox());
      if (signal.aborted) return;
      await this.#retry("mesh", () => this.#applyMesh(true));
      if (signal.aborted) return;
      this.#startContainers(signal);
      while (!signal.aborted) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          if (signal.aborted || this.#meshWanted !== this.#meshed) resolve();
        });
        if (!signal.aborted) await this.#retry("mesh", () => this.#applyMesh(false));
      }
    } finally {
      await this.#remove();
    }
  }

  async #createSandbox(): Promise<void> {
    const { veth, address, pod, uid } = this.#options;
    const { lan, podsFolder, clusterDomain } = this.#environment;
    await this.#namespace?.delete();
    this.#namespace = await LabNamespace.create(`${pod.metadata.namespace}.${pod.metadata.name}`);
    await attach(this.#namespace, veth, address, lan);
    writeEtc(join(podsFolder, pod.metadata.uid), {
      podName: pod.metadata.name,
      namespace: pod.metadata.namespace,
      address,
      nameserver: lan.gateway.v4,
      clusterDomain,
      uid,
    });
  }

  /** Makes capture what it should be. Before the first process (`fresh`) nothing can leave in between. */
  async #applyMesh(fresh: boolean): Promise<void> {
    const { mesh, services } = this.#environment;
    const { pod } = this.#options;
    const wanted = this.#meshWanted;
    const namespace = this.#namespace;
    if (namespace === undefined || (!fresh && wanted === this.#meshed)) return;
    if (wanted) {
      await mesh.enrol(pod, namespace, fresh);
      await services.detach(pod.metadata.uid);
      this.#annotate("enabled");
    } else {
      this.#annotate(undefined);
      await services.attach(pod.metadata.uid, namespace);
      if (!fresh) await mesh.withdraw(pod, namespace);
    }
    this.#meshed = wanted;
  }

  /** What the control plane goes by: set after capture is complete, taken away before it ends. */
  #annotate(value: "enabled" | undefined): void {
    this.#options.report((pod) => withAnnotation(pod, REDIRECTION_ANNOTATION, value));
  }

  #startContainers(signal: AbortSignal): void {
    const { pod, containers, uid, address } = this.#options;
    const namespace = this.#namespace?.path ?? "";
    const { mountFolder, podsFolder, logsFolder, appFolder, node, attach } = this.#environment;
    for (const one of containers) {
      const fileName = `${pod.metadata.namespace}.${pod.metadata.name}.${one.spec.name}.log`;
      const container = new Container({
        command: one.command,
        env: { PATH: node.path, HOME: "/tmp", HOSTNAME: pod.metadata.name, ...one.env },
        namespace,
        hostname: pod.metadata.name,
        uid,
        folders: {
          mount: mountFolder,
          etc: join(podsFolder, pod.metadata.uid),
          app: one.appFolder ?? appFolder,
          node: node.folder,
        },
        log: new LogFile(join(logsFolder, fileName)),
        attach: attach.get(this.#name),
        changed: () => this.#publish(),
      });
      const { readinessProbe } = one.spec;
      const state = { container, ready: readinessProbe === undefined, reason: "" };
      this.#containers.set(one.spec.name, state);
      if (readinessProbe === undefined) continue;
      const specs = containers.map(({ spec }) => spec);
      const check = async (timeoutMs: number) => {
        if (!container.running) return "the process is not running";
        return await runProbe(readinessProbe, specs, namespace, address.v4, timeoutMs);
      };
      const changed = (ready: boolean, reason: string) => {
        Object.assign(state, { ready, reason });
        this.#publish();
      };
      // It ends with the signal and turns every failure into a verdict.
      void watchProbe(readinessProbe, check, changed, signal);
    }
  }

  #publish(): void {
    const statuses: ContainerStatus[] = [];
    const waiting: string[] = this.#problem === "" ? [] : [this.#problem];
    for (const [name, { container, ready, reason }] of this.#containers) {
      const isReady = ready && container.running;
      statuses.push({ name, ready: isReady, restartCount: container.restarts, pid: container.pid });
      if (!container.running) waiting.push(`${name} is not running`);
      else if (!ready) waiting.push(reason === "" ? `${name} has not been probed yet` : `${name}: ${reason}`);
    }
    // The launcher has not come to the container's process yet: look again, for its number is worth showing.
    const early = [...this.#containers.values()].some(
      ({ container }) => container.running && container.pid === undefined,
    );
    if (early && !this.#stopping.signal.aborted) setTimeout(() => this.#publish(), PID_POLL_MS);
    const isReady = waiting.length === 0 && statuses.length > 0;
    const condition: PodCondition = isReady
      ? { type: "Ready", status: "True" }
      : { type: "Ready", status: "False", reason: "ContainersNotReady", message: waiting.join("; ") };
    const phase = statuses.length > 0 ? "Running" : "Pending";
    this.#options.report((pod) => withStatus(pod, { phase, conditions: [condition], containerStatuses: statuses }));
  }

  /** Tries a step until it succeeds or the pod is to stop; the reason of a failure is part of the pod's status. */
  async #retry(what: string, step: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = new Backoff({ initialMs: RETRY_INITIAL_MS, maxMs: RETRY_MAX_MS });
    while (!signal.aborted) {
      try {
        await step();
        if (this.#problem !== "") {
          this.#problem = "";
          this.#publish();
        }
        return;
      } catch (error) {
        this.#problem = `${what}: ${messageOf(error)}`;
        this.#log.warn(`${this.#name}: ${this.#problem}`);
        this.#publish();
        await sleep(backoff.next(), signal);
      }
    }
  }

  async #remove(): Promise<void> {
    const { pod, veth } = this.#options;
    const { mesh, services, podsFolder } = this.#environment;
    await Promise.all([...this.#containers.values()].map(({ container }) => container.stop(0)));
    await services.detach(pod.metadata.uid);
    await mesh.forget(pod);
    await deleteLink(veth);
    await this.#namespace?.delete();
    rmSync(join(podsFolder, pod.metadata.uid), { recursive: true, force: true });
  }
}
