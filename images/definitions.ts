import type { ImageConfig } from "./oci.ts";

/** What is in each image besides the base layer, and how it starts. */
export interface ImageDefinition {
  /** Last part of the image's name; the app of the same name unless `entries` says otherwise. */
  readonly name: string;
  readonly title: string;
  /** Modules whose imports are followed, from the repository's root. */
  readonly entries: readonly string[];
  /** Files that the app reads, as patterns from the repository's root. */
  readonly data?: readonly string[];
  /** Debian programs, as name → place in the image; with their libraries. */
  readonly programs?: Readonly<Record<string, string>>;
  /** Whether the CNI plugin comes along. */
  readonly plugin?: boolean;
  readonly config: ImageConfig;
}

/** node:ffi is marked experimental; one warning per process says nothing new. */
const NODE = ["/usr/bin/node", "--disable-warning=ExperimentalWarning"];
const ENVIRONMENT = { PATH: "/usr/sbin:/usr/bin", NODE_ENV: "production" };

export const IMAGES: readonly ImageDefinition[] = [
  {
    name: "control-plane",
    title: "Tulle control plane: workload discovery, delta xDS and the CA",
    entries: ["apps/control-plane/src/main.ts"],
    config: app("control-plane", "1337:1337"),
  },
  {
    name: "ztunnel",
    title: "Tulle ztunnel: the layer 4 proxy of a node",
    entries: ["apps/ztunnel/src/main.ts"],
    // Operators run: kubectl exec … -- curl localhost:15000/config_dump
    programs: { curl: "usr/bin/curl" },
    config: { ...app("ztunnel", "0:1337"), cmd: ["proxy", "ztunnel"] },
  },
  {
    name: "node-agent",
    title: "Tulle node agent: enrols pods, and installs the CNI plugin that it brings",
    entries: ["apps/node-agent/src/main.ts"],
    // It speaks netlink by itself; rules are compiled by nft.
    programs: { nft: "usr/sbin/nft" },
    plugin: true,
    config: app("node-agent", "0:0"),
  },
  {
    name: "sample-bookinfo",
    title: "The services of Tulle's Bookinfo sample; the first argument (or SERVICE) says which one",
    entries: ["samples/bookinfo/programs/*.ts"],
    config: {
      entrypoint: ["/usr/bin/node", "/app/samples/bookinfo/programs/main.js"],
      env: ENVIRONMENT,
      user: "65534:65534",
    },
  },
];

function app(name: string, user: string): ImageConfig {
  return { entrypoint: [...NODE, `/app/apps/${name}/src/main.js`], env: ENVIRONMENT, user };
}
