import { rmSync } from "node:fs";
import { join } from "node:path";
import { Backoff, type Log, messageOf, sleep } from "@tulle/base";
import { LabNamespace } from "@tulle/lab";
import type { PodHandle } from "../objects/cluster.ts";
import { type PodCondition, REDIRECTION_ANNOTATION, withAnnotation, withStatus } from "../objects/pod.ts";
import { writeEtc } from "./container-root.ts";
import { attach, deleteLink } from "./network.ts";
import { PodContainers } from "./pod-containers.ts";
import type { RunnerEnvironment, RunnerOptions } from "./pod-environment.ts";

/** How soon a step that failed (a rule, an acknowledgement) is tried again. */
const RETRY_INITIAL_MS = 200;
const RETRY_MAX_MS = 5000;

/** Plays kubelet for one pod: namespace, enrolment, processes, readiness, and the way back. */
export class PodRunner implements PodHandle {
  readonly #environment: RunnerEnvironment;
  readonly #options: RunnerOptions;
  readonly #stopping = new AbortController();
  #containers: PodContainers | undefined;
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
    await this.#containers?.stop(graceMs);
    await this.ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await this.#retry("network", () => this.#createSandbox());
      if (signal.aborted) return;
      await this.#retry("mesh", () => this.#applyMesh(true));
      if (signal.aborted) return;
      this.#containers = new PodContainers({
        environment: this.#environment,
        pod: this.#options,
        namespacePath: this.#namespace?.path ?? "",
        changed: () => this.#publish(),
        signal,
      });
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

  #publish(): void {
    const { statuses, waiting } = this.#containers?.status() ?? { statuses: [], waiting: [] };
    const reasons = this.#problem === "" ? waiting : [this.#problem, ...waiting];
    const condition: PodCondition =
      reasons.length === 0 && statuses.length > 0
        ? { type: "Ready", status: "True" }
        : { type: "Ready", status: "False", reason: "ContainersNotReady", message: reasons.join("; ") };
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
    await this.#containers?.stop(0);
    await services.detach(pod.metadata.uid);
    await mesh.forget(pod);
    await deleteLink(veth);
    await this.#namespace?.delete();
    rmSync(join(podsFolder, pod.metadata.uid), { recursive: true, force: true });
  }
}
