import { BYPASS_INBOUND_ANNOTATION, DNS_CAPTURE_ANNOTATION, VIRTUAL_INTERFACES_ANNOTATION } from "@tulle/base";
import { isInterfaceName, type PodRuleOptions } from "@tulle/linux";
import { annotationOf, type Pod, parseGoBool } from "../objects.ts";
import { declaredProbePorts } from "./probe-ports.ts";

/** What of a pod's rules the node decides. */
export interface RuleDefaults {
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  /** Source addresses of the kubelet's probes; none: probes are not exempted. */
  readonly probeIps: readonly string[];
}

export interface RuleChoice {
  readonly options: PodRuleOptions;
  /** Annotations that are ignored because they cannot be read; for people. */
  readonly ignored: readonly string[];
}

/** A pod with more would get a ruleset that nobody can read. */
const MAX_VIRTUAL_INTERFACES = 32;

/** The rules that a pod asks for by its annotations (spec: control-plane §1.2) and needs because of its probes. */
export function ruleOptions(pod: Pod, defaults: RuleDefaults): RuleChoice {
  const ignored: string[] = [];
  const boolean = (key: string) => {
    const text = annotationOf(pod, key);
    const value = parseGoBool(text);
    if (text !== undefined && value === undefined) ignored.push(`${key}="${text}" is no boolean`);
    return value;
  };
  const interfaces = (annotationOf(pod, VIRTUAL_INTERFACES_ANNOTATION) ?? "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const virtualInterfaces = [...new Set(interfaces)].filter(isInterfaceName).slice(0, MAX_VIRTUAL_INTERFACES);
  if (virtualInterfaces.length < new Set(interfaces).size) {
    ignored.push(`${VIRTUAL_INTERFACES_ANNOTATION} holds what is no interface, or more than ${MAX_VIRTUAL_INTERFACES}`);
  }
  const probePorts = defaults.probeIps.length === 0 ? [] : declaredProbePorts(pod);
  return {
    options: {
      ipv6: defaults.ipv6,
      dnsCapture: boolean(DNS_CAPTURE_ANNOTATION) ?? defaults.dnsCapture,
      ingressMode: boolean(BYPASS_INBOUND_ANNOTATION) ?? false,
      virtualInterfaces,
      probeIps: defaults.probeIps,
      probePorts,
    },
    ignored,
  };
}
