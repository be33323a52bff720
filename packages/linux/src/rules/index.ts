export { CommandError, type CommandOptions, inNamespace, run } from "./command.ts";
export {
  type AppliedRules,
  applyPodRules,
  installGuard,
  isGuarded,
  type RulesVerdict,
  removeGuard,
  removePodRules,
  verifyPodRules,
} from "./enrolment.ts";
export { classifyConnections, type DirectConnection, type PodConnections, podConnections } from "./pod-connections.ts";
export { DEFAULT_PROBE_IPS, isInterfaceName, type PodRuleOptions, podRules } from "./pod-rules.ts";
