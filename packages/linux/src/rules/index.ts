export { CommandError, type CommandOptions, inNamespace, run } from "./command.ts";
export {
  type AppliedRules,
  type ApplyOptions,
  applyPodRules,
  drainPodRules,
  hasPodRules,
  type RulesVerdict,
  removePodRules,
  verifyPodRules,
} from "./enrolment.ts";
export {
  applyHostProbes,
  isNameableCgroup,
  type HostProbeOptions,
  type HostProbeState,
  type ProbeTarget,
  readHostProbes,
  removeHostProbes,
} from "./host-probes.ts";
export type { ReturnPath } from "./return-path.ts";
export { ROUTING_TABLE } from "./pod-routing.ts";
export { directConnections, type PodConnections, podConnections } from "./pod-connections.ts";
export { DEFAULT_PROBE_IPS, isInterfaceName, type PodRuleOptions, podRules } from "./pod-rules.ts";
