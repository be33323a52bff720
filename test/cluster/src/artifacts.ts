import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** What the cluster is made of and apt does not have: built from Go modules, kept in the cache folder. */
export interface Component {
  /** Its folder under `go/`, and in the cache. */
  readonly name: "kube-all" | "coredns" | "labbox" | "istio";
  /** Packages by the program that each becomes. Default: the folder's own, by the component's name. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Given to `go build -ldflags`. */
  readonly linkerFlags: string;
  /** The image that holds the program of the entry point, if pods run it: `<name>.tar`. */
  readonly image?: { readonly reference: string; readonly entrypoint: readonly string[] };
  /** The files it consists of in the cache. */
  readonly files: readonly string[];
}

/** Kubernetes writes what it is into its binaries at link time; without this, kubectl cannot read the version. */
const KUBERNETES_VERSION = { major: 1, minor: 36, patch: 3 };
const VERSION_PACKAGE = "k8s.io/component-base/version";

/** The image of the test servers and clients; also the pause image. */
export const LABBOX_IMAGE = "lab.local/labbox:1";
export const COREDNS_IMAGE = "lab.local/coredns:1";

export const COMPONENTS: readonly Component[] = [
  { name: "kube-all", linkerFlags: `-s -w ${kubernetesVersionFlags()}`, files: ["kube-all"] },
  {
    name: "coredns",
    linkerFlags: "-s -w",
    image: { reference: COREDNS_IMAGE, entrypoint: ["/coredns"] },
    files: ["coredns.tar"],
  },
  {
    name: "labbox",
    linkerFlags: "-s -w",
    image: { reference: LABBOX_IMAGE, entrypoint: ["/labbox"] },
    files: ["labbox", "labbox.tar"],
  },
];

export const ISTIOD_IMAGE = "lab.local/istiod:1";

/** Istio's own programs, unchanged, for `peers.ts` only: they take as long to build as all the rest. */
export const ISTIO: Component = {
  name: "istio",
  programs: {
    istioctl: "istio.io/istio/istioctl/cmd/istioctl",
    "pilot-discovery": "istio.io/istio/pilot/cmd/pilot-discovery",
    "install-cni": "istio.io/istio/cni/cmd/install-cni",
    "istio-cni": "istio.io/istio/cni/cmd/istio-cni",
  },
  linkerFlags: "-s -w",
  image: { reference: ISTIOD_IMAGE, entrypoint: ["/pilot-discovery"] },
  files: ["istioctl", "istio.tar", "install-cni", "istio-cni"],
};

const SOURCES = join(import.meta.dirname, "..", "go");
/** Of the hash in a cache path: enough that two inputs never meet. */
const KEY_LENGTH = 16;

/** `TULLE_CLUSTER_CACHE`, else under the user's cache folder. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { TULLE_CLUSTER_CACHE: own, XDG_CACHE_HOME: cache } = environment;
  return own || join(cache || join(homedir(), ".cache"), "tulle", "cluster");
}

export function sourceFolder(component: Component): string {
  return join(SOURCES, component.name);
}

/** Where the component lies in the cache: named by a hash of all that it is built from, so that a stale one is never used. */
export function artifactFolder(component: Component, cache = cacheFolder()): string {
  const hash = createHash("sha256").update(JSON.stringify([component, process.arch]));
  const folder = sourceFolder(component);
  for (const name of readdirSync(folder).sort()) {
    if (/\.go$|^go\.(mod|sum)$/.test(name)) hash.update(`\0${name}\0`).update(readFileSync(join(folder, name)));
  }
  return join(cache, component.name, hash.digest("hex").slice(0, KEY_LENGTH));
}

/** The path of one file of a component. */
export function artifact(name: Component["name"], file: string, cache = cacheFolder()): string {
  const component = [...COMPONENTS, ISTIO].find((candidate) => candidate.name === name);
  if (component === undefined || !component.files.includes(file)) throw new RangeError(`${name} has no file ${file}`);
  return join(artifactFolder(component, cache), file);
}

function kubernetesVersionFlags(): string {
  const { major, minor, patch } = KUBERNETES_VERSION;
  const values = {
    gitVersion: `v${major}.${minor}.${patch}`,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: "clean",
    // Constant, so that the same sources give the same file.
    gitCommit: "0".repeat(40),
    buildDate: "2026-01-01T00:00:00Z",
  };
  return Object.entries(values)
    .map(([name, value]) => `-X ${VERSION_PACKAGE}.${name}=${value}`)
    .join(" ");
}
