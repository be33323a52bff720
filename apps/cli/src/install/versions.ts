import { CliError } from "../cli-error.ts";

/** The oldest Kubernetes whose API has every field that the manifests set (a container's appArmorProfile). */
const OLDEST_MINOR = 30;

/** Undefined: `v1.36.3` will do. */
export function versionProblem(version: string): string | undefined {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  // A cluster built from a branch may not know its version; it is not refused for that.
  if (major === undefined || Number(major) > 1) return undefined;
  if (Number(major) === 1 && Number(minor) >= OLDEST_MINOR) return undefined;
  // Builds without a stamp say v0.0.0.
  if (Number(major) === 0) return undefined;
  return `Kubernetes ${version} is too old: 1.${OLDEST_MINOR} or newer is needed`;
}

/** Throws CliError. */
export function requireSupportedVersion(version: string): void {
  const problem = versionProblem(version);
  if (problem !== undefined) throw new CliError(problem, "upgrade the cluster, or choose another one with --context");
}
