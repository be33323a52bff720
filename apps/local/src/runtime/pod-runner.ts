import { rmSync } from "node:fs";
import { join } from "node:path";
import { Backoff, type Log, messageOf, sleep } from "@tulle/base";
import { LabNamespace } from "@tulle/lab";
import type { Condition } from "@tulle/store";
import type { PodHandle } from "../objects/scheduler.ts";
import { writeEtc } from "./container-root.ts";
import { attach, deleteLink } from "./network.ts";
import { PodContainers } from "./pod-containers.ts";
import type { RunnerEnvironment, RunnerOptions } from "./pod-environment.ts";

/** How soon a step that failed (a rule, the agent's yes) is tried again. */
const RETRY_INITIAL_MS = 200;
const RETRY_MAX_MS = 5000;

/** Plays kubelet for one pod: namespace, the agent's yes, processes, readiness, and the way back. */
export class PodRunner implements PodHandle {
  readonly #environment: RunnerEnvironment;
  readonly #options: RunnerOptions;
  readonly #stopping = new AbortController();
  readonly #log: Log;
  readonly #startTime = timestamp();
  readonly #running: Promise<void>;
  #containers: PodContainers | undefined;
  #namespace: LabNamespace | undefined;
  #problem = "";
  #ready: Condition = { type: "Ready", status: "Unknown" };

  constructor(environment: RunnerEnvironment, options: RunnerOptions) {
    this.#environment = environment;
    this.#options = options;
    this.#log = environment.log.scope("pod");
    this.#running = this.#run().catch((error: unknown) => this.#log.error(`${this.#name}: ${messageOf(error)}`));
  }

  get #name(): string {
    const { namespace, name } = this.#options.pod.metadata;
    return `${namespace}/${name}`;
  }

  get #uid(): string {
    return this.#options.pod.metadata.uid ?? this.#name;
  }

  /** Of the pod's network namespace, for `ip netns exec`; undefined before it is made. */
  get namespaceName(): string | undefined {
    return this.#namespace?.name;
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    await this.#containers?.stop(graceMs);
    await this.#running;
    // One that was being started at that moment.
    await this.#containers?.stop(0);
  }

  async remove(): Promise<void> {
    const { services, podsFolder } = this.#environment;
    services.detach(this.#uid);
    await deleteLink(this.#options.veth);
    await this.#namespace?.delete();
    rmSync(join(podsFolder, this.#uid), { recursive: true, force: true });
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    this.#publish();
    await this.#retry("network", () => this.#createSandbox());
    if (signal.aborted) return;
    await this.#retry("mesh", () => this.#join());
    if (signal.aborted) return;
    this.#containers = new PodContainers({
      environment: this.#environment,
      pod: this.#options,
      namespacePath: this.#namespace?.path ?? "",
      changed: () => this.#publish(),
      signal,
    });
    this.#publish();
  }

  async #createSandbox(): Promise<void> {
    const { veth, address, pod, uid } = this.#options;
    const { lan, podsFolder, clusterDomain, services } = this.#environment;
    await this.#namespace?.delete();
    this.#namespace = await LabNamespace.create(`${pod.metadata.namespace}.${pod.metadata.name}`);
    await attach(this.#namespace, veth, address, lan);
    await services.attach(this.#uid, this.#namespace);
    writeEtc(join(podsFolder, this.#uid), {
      podName: pod.metadata.name,
      namespace: pod.metadata.namespace,
      address,
      nameserver: lan.gateway.v4,
      clusterDomain,
      uid,
    });
  }

  /** Before the first process: nothing leaves the pod that its agent has not said yes to. */
  async #join(): Promise<void> {
    const { pod, address } = this.#options;
    const { lan, admit } = this.#environment;
    const { name, namespace } = pod.metadata;
    const sandbox = {
      ...{ name, namespace, address },
      netns: this.#namespace?.path ?? "",
      gateway: lan.gateway,
      prefixLength: { v4: lan.v4Bits, v6: lan.v6Bits },
    };
    await admit(pod.spec.nodeName, sandbox, this.#stopping.signal);
  }

  #publish(): void {
    const { address, hostIP, report } = this.#options;
    const { statuses, waiting } = this.#containers?.status() ?? { statuses: [], waiting: ["it has not started"] };
    const reasons = this.#problem === "" ? waiting : [this.#problem, ...waiting];
    this.#ready = readyCondition(this.#ready, reasons);
    // The network counts when the agent has said yes, as the kubelet tells of it when all plugins have.
    const ips = [address.v4, address.v6].flatMap((ip) => (ip === undefined ? [] : [{ ip }]));
    const network = this.#containers === undefined ? {} : { podIP: address.v4, podIPs: ips };
    report({
      phase: this.#containers === undefined ? "Pending" : "Running",
      ...network,
      ...(hostIP === "" ? {} : { hostIP }),
      startTime: this.#startTime,
      conditions: [this.#ready],
      containerStatuses: statuses,
    });
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
        if (signal.aborted) return;
        this.#problem = `${what}: ${messageOf(error)}`;
        this.#log.warn(`${this.#name}: ${this.#problem}`);
        this.#publish();
        await sleep(backoff.next(), signal);
      }
    }
  }
}

function readyCondition(before: Condition, reasons: readonly string[]): Condition {
  const status = reasons.length === 0 ? "True" : "False";
  const since = before.status === status ? before.lastTransitionTime : undefined;
  const why = reasons.length === 0 ? {} : { reason: "ContainersNotReady", message: reasons.join("; ") };
  return { type: "Ready", status, lastTransitionTime: since ?? timestamp(), ...why };
}

function timestamp(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}
