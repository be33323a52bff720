import { type AgentAnswer, type AgentTimeouts, askAgent } from "./agent-client.ts";
import { type ApiAnswer, askApi } from "./api-client.ts";
import { CniError, printError } from "./cni-error.ts";
import { isEnrolled } from "./eligibility.ts";
import { type NetworkConfig, parseNetworkConfig, SUPPORTED_VERSIONS, versionOf } from "./network-config.ts";
import { addRequest, type Environment, podOf, type PodName, required } from "./pod-arguments.ts";

/** One call of the plugin: what it says on standard output and with which code it ends. */
export interface Outcome {
  readonly output: string;
  readonly exitCode: number;
}

export interface CommandOptions {
  readonly environment: Environment;
  /** Standard input as a whole. */
  readonly input: string;
  readonly agentTimeouts?: AgentTimeouts;
  readonly apiTimeoutMs?: number;
}

export const SOCKET_NAME = "pluginevent.sock";
export const KUBECONFIG_NAME = "istio-cni-kubeconfig";

/** Runs the command of CNI_COMMAND. Never rejects: a failure is an Outcome too. */
export async function runCommand(options: CommandOptions): Promise<Outcome> {
  try {
    return { output: await outputOf(options), exitCode: 0 };
  } catch (error) {
    const version = versionOf(options.input);
    return { output: printError(error, SUPPORTED_VERSIONS.includes(version) ? version : "1.0.0"), exitCode: 1 };
  }
}

async function outputOf(options: CommandOptions): Promise<string> {
  const command = required(options.environment, "CNI_COMMAND");
  switch (command) {
    case "ADD":
      return add(options, parseNetworkConfig(options.input));
    case "VERSION":
      return print({ cniVersion: versionOf(options.input), supportedVersions: SUPPORTED_VERSIONS });
    // The agent watches pods: it learns of their end, proves their capture and collects what is left over by itself.
    case "DEL":
    case "CHECK":
    case "GC":
    // Ready even without an agent. A network that is not ready keeps kubelet from starting any pod, the agent's too.
    case "STATUS":
      parseNetworkConfig(options.input);
      return "";
    default:
      throw new CniError(
        "invalidEnvironment",
        `istio-cni: CNI_COMMAND is ${command}`,
        "ADD, DEL, CHECK, GC, STATUS and VERSION are known",
      );
  }
}

/**
 * The pod's network stands; decides whether the pod may start on it. Every pod is the agent's to judge. Without an agent,
 * only a pod of which the API says that it is not enrolled may start.
 */
async function add(options: CommandOptions, config: NetworkConfig): Promise<string> {
  const { environment } = options;
  required(environment, "CNI_CONTAINERID");
  const netns = required(environment, "CNI_NETNS");
  const result = print(config.prevResult ?? { cniVersion: config.cniVersion });
  const pod = podOf(environment);
  if (pod === undefined) return result;
  // The mesh and what the cluster itself needs start first, and without it.
  if (pod.namespace === config.releaseNamespace || config.excludedNamespaces.includes(pod.namespace)) return result;

  const socket = `${config.runDir}/${SOCKET_NAME}`;
  const answer = await askAgent(socket, addRequest(pod, netns, config.prevResult), options.agentTimeouts);
  if (answer.kind !== "dead") {
    requireYes(pod, answer);
    return result;
  }
  const kubeconfig = `${config.runDir}/${KUBECONFIG_NAME}`;
  const timeout = options.apiTimeoutMs === undefined ? {} : { timeoutMs: options.apiTimeoutMs };
  const objects = await askApi({ kubeconfig, pod: pod.name, namespace: pod.namespace, ...timeout });
  requireOutside(pod, config, objects, `no node agent answers at ${socket} (${answer.reason})`);
  return result;
}

function requireYes(pod: PodName, answer: Exclude<AgentAnswer, { kind: "dead" }>): void {
  const who = `${pod.namespace}/${pod.name}`;
  if (answer.kind === "broken") {
    throw new CniError(
      "tryAgainLater",
      `istio-cni: the node agent did not say whether ${who} may start: ${answer.reason}`,
      "kubelet tries again; if it goes on, look at the log of the istio-cni-node pod on this node",
    );
  }
  if (answer.status === 200) return;
  throw new CniError(
    "refused",
    `istio-cni: the node agent could not enrol ${who}: ${answer.text || `status ${answer.status}`}`,
    "kubelet tries again; the log of the istio-cni-node pod on this node says more",
  );
}

function requireOutside(pod: PodName, config: NetworkConfig, objects: ApiAnswer, silence: string): void {
  const who = `${pod.namespace}/${pod.name}`;
  const next = "see whether the istio-cni-node pod on this node runs; kubelet tries again by itself";
  if (objects.kind === "unknown") {
    throw new CniError(
      "tryAgainLater",
      `istio-cni: ${silence}, and whether ${who} belongs to the mesh cannot be told: ${objects.reason}`,
      next,
    );
  }
  if (!isEnrolled(objects.pod, objects.namespace, config.selectors)) return;
  throw new CniError(
    "tryAgainLater",
    `istio-cni: ${who} belongs to the mesh and would start outside of it: ${silence}`,
    `${next}; label the pod istio.io/dataplane-mode=none to start it without the mesh`,
  );
}

function print(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
