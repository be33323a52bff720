import packageFile from "../package.json" with { type: "json" };

/** What this program is, under the keys that ztunnel uses (spec: l4-ztunnel §9.1). */
export interface VersionInfo {
  readonly version: string;
  readonly gitRevision: string;
  /** What runs the code: Node here. */
  readonly rustVersion: string;
  readonly buildProfile: string;
  readonly buildStatus: string;
  readonly istioVersion: string;
  readonly cryptoProvider: string;
}

/** `istioVersion`: ISTIO_META_ISTIO_VERSION, or "unknown". */
export function versionInfo(istioVersion: string): VersionInfo {
  return {
    version: `tulle-${packageFile.version}`,
    gitRevision: "unknown",
    rustVersion: `node-${process.versions.node}`,
    buildProfile: "release",
    buildStatus: "Clean",
    istioVersion,
    cryptoProvider: `openssl-${process.versions.openssl}`,
  };
}

/** As ztunnel prints it at the start. */
export function printVersion(info: VersionInfo): string {
  const fields = Object.entries(info).map(([key, value]) => {
    const name = key[0]?.toUpperCase() + key.slice(1);
    return `${name}:${JSON.stringify(value)}`;
  });
  return `version.BuildInfo{${fields.join(", ")}}`;
}
