import { REDIRECTION_ANNOTATION } from "@tulle/base";
import type { GatewayAddress, Locality, PolicyKey, TunnelProtocol } from "../model.ts";
import type { Condition, MeshSettings } from "./context.ts";
import { annotationOf, type KubeNamespace, type Labels, labelOf, type ObjectMeta } from "./kubernetes.ts";
import type { WaypointLookup } from "./waypoint.ts";

/** What any workload depends on besides its own object. */
export interface WorkloadContext {
  readonly settings: MeshSettings;
  /** Of the cluster. */
  readonly network: string;
  readonly namespace: KubeNamespace | undefined;
  readonly waypoints: WaypointLookup;
  readonly networkGateway: (network: string) => GatewayAddress | undefined;
  /** Keys of the policies that workloads of this namespace with these labels name, in order. */
  readonly policies: (labels: Labels | undefined) => readonly PolicyKey[];
  /** Names a pod of another namespace that has this address in the cluster's network, as `namespace/name`. */
  readonly foreignPod: (ip: string) => string | undefined;
}

/** Problems that a condition lists; the rest is a number. An API server takes 32 KiB. */
const MAX_LISTED_PROBLEMS = 8;
/** Characters of one problem: two names of the longest kind and what is said of them. */
const MAX_PROBLEM_LENGTH = 1024;
/** A comma list; `http`: the workload terminates HBONE itself. */
const TUNNEL_LABEL = "networking.istio.io/tunnel";

export function tunnelOf(object: { readonly metadata?: ObjectMeta | undefined }): {
  readonly protocol: TunnelProtocol;
  readonly nativeTunnel: boolean;
} {
  const nativeTunnel = (labelOf(object, TUNNEL_LABEL) ?? "").split(",").includes("http");
  const meshed = nativeTunnel || annotationOf(object, REDIRECTION_ANNOTATION) === "enabled";
  return { protocol: meshed ? "HBONE" : "TCP", nativeTunnel };
}

/** Labels of control-plane.md §2.3; `fallback`: what the workload is called without. */
export function canonicalOf(labels: Labels | undefined, fallback: string) {
  const first = (...names: readonly string[]) =>
    names.map((name) => labels?.[name]).find((value) => value !== undefined);
  return {
    canonicalName: first("service.istio.io/canonical-name", "app.kubernetes.io/name", "app") ?? fallback,
    canonicalRevision: first("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version") ?? "latest",
  };
}

/** `region/zone/subzone`; what is missing is empty. */
export function parseLocality(text: string | undefined): Locality {
  const [region = "", zone = "", subzone = ""] = (text ?? "").split("/");
  return { region, zone, subzone };
}

export function notAccepted(reason: string, problems: readonly string[]): Condition {
  const more = problems.length - MAX_LISTED_PROBLEMS;
  const listed = problems.slice(0, MAX_LISTED_PROBLEMS).map((text) => text.slice(0, MAX_PROBLEM_LENGTH));
  const message = [...listed, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
  return { type: "ambient.tulle.dev/Accepted", status: "False", reason, message };
}
