import { join } from "node:path";
import { type ContainerStatus, containerId } from "../objects/pod.ts";
import type { ResolvedContainer } from "../objects/pod-template.ts";
import { Container } from "./container.ts";
import { LogFile } from "./log-file.ts";
import type { RunnerEnvironment, RunnerOptions } from "./pod-environment.ts";
import { runProbe, watchProbe } from "./probe.ts";

export interface PodContainersOptions {
  readonly environment: RunnerEnvironment;
  readonly pod: RunnerOptions;
  readonly namespacePath: string;
  /** Called whenever `status` may say something else. */
  readonly changed: () => void;
  /** Ends the probes. */
  readonly signal: AbortSignal;
}

interface State {
  readonly container: Container;
  ready: boolean;
  /** Why not, from the last probe. */
  reason: string;
}

/** A launcher takes about this long to build a pod's root. */
const PID_POLL_MS = 100;

/** The processes of one pod and their probes. They start with the constructor. */
export class PodContainers {
  readonly #options: PodContainersOptions;
  readonly #states = new Map<string, State>();

  constructor(options: PodContainersOptions) {
    this.#options = options;
    for (const one of options.pod.containers) {
      const state: State = { container: this.#start(one), ready: one.spec.readinessProbe === undefined, reason: "" };
      this.#states.set(one.spec.name, state);
      this.#probe(one, state);
    }
  }

  /** Each container's status, and what keeps the pod from being ready. */
  status(): { readonly statuses: readonly ContainerStatus[]; readonly waiting: readonly string[] } {
    const statuses: ContainerStatus[] = [];
    const waiting: string[] = [];
    let early = false;
    for (const [name, { container, ready, reason }] of this.#states) {
      const { running, pid, restarts } = container;
      const containerID = containerId(running ? pid : undefined);
      statuses.push({
        name,
        ready: ready && running,
        restartCount: restarts,
        ...(containerID === undefined ? {} : { containerID }),
      });
      if (!running) waiting.push(`${name} is not running`);
      else if (!ready) waiting.push(reason === "" ? `${name} has not been probed yet` : `${name}: ${reason}`);
      early ||= running && pid === undefined;
    }
    // The launcher has not come to the container's process yet: look again, for its number is worth showing.
    if (early && !this.#options.signal.aborted) setTimeout(this.#options.changed, PID_POLL_MS);
    return { statuses, waiting };
  }

  async stop(graceMs: number): Promise<void> {
    await Promise.all([...this.#states.values()].map(({ container }) => container.stop(graceMs)));
  }

  #start(one: ResolvedContainer): Container {
    const { environment, pod: options, namespacePath, changed } = this.#options;
    const { pod, uid } = options;
    const { mountFolder, podsFolder, logsFolder, appFolder, node, attach } = environment;
    const { namespace, name } = pod.metadata;
    return new Container({
      command: one.command,
      env: { PATH: node.path, HOME: "/tmp", HOSTNAME: name, ...one.env },
      namespace: namespacePath,
      hostname: name,
      uid,
      folders: {
        mount: mountFolder,
        etc: join(podsFolder, pod.metadata.uid ?? name),
        app: one.appFolder ?? appFolder,
        node: node.binary,
      },
      log: new LogFile(join(logsFolder, `${namespace}.${name}.${one.spec.name}.log`)),
      attach: attach.get(`${namespace}/${name}`),
      changed,
    });
  }

  #probe({ spec }: ResolvedContainer, state: State): void {
    const { pod, namespacePath, changed, signal } = this.#options;
    const probe = spec.readinessProbe;
    if (probe === undefined) return;
    const specs = pod.containers.map((one) => one.spec);
    const check = async (timeoutMs: number) => {
      if (!state.container.running) return "the process is not running";
      return await runProbe(probe, specs, namespacePath, pod.address.v4, timeoutMs);
    };
    const verdict = (ready: boolean, reason: string) => {
      Object.assign(state, { ready, reason });
      changed();
    };
    // It ends with the signal and turns every failure into a verdict.
    void watchProbe(probe, check, verdict, signal);
  }
}
