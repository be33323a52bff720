import {
  ALL_KINDS,
  CUSTOM_RESOURCE_DEFINITION,
  type ResourceKind,
  resourceName,
  type Store,
  StoreError,
} from "@tulle/store";
import { CliError } from "../cli-error.ts";
import { didYouMean } from "../near-names.ts";

/** Short names that kubectl's users know. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  ap: "authorizationpolicies",
  cm: "configmaps",
  crd: "customresourcedefinitions",
  crds: "customresourcedefinitions",
  deploy: "deployments",
  dr: "destinationrules",
  ds: "daemonsets",
  ev: "events",
  gc: "gatewayclasses",
  gtw: "gateways",
  no: "nodes",
  ns: "namespaces",
  pa: "peerauthentications",
  po: "pods",
  ra: "requestauthentications",
  rs: "replicasets",
  sa: "serviceaccounts",
  se: "serviceentries",
  sts: "statefulsets",
  svc: "services",
  vs: "virtualservices",
  we: "workloadentries",
};

/** The kind that `name` means: its plural, singular or short name, with or without its group. Rejects with CliError. */
export async function findKind(store: Store, name: string): Promise<ResourceKind> {
  const wanted = name.toLowerCase();
  const known = matching(ALL_KINDS, wanted);
  if (known !== undefined) return known;
  // Others may be defined in the cluster.
  const defined = await definedKinds(store);
  const found = matching(defined, wanted);
  if (found !== undefined) return found;
  const names = [...ALL_KINDS, ...defined].flatMap((kind) => [kind.plural, kind.kind.toLowerCase()]);
  throw new CliError(
    `there is no kind "${name}"`,
    didYouMean(wanted, new Set(names)) ?? `kinds are: ${ALL_KINDS.map(resourceName).join(", ")}`,
  );
}

function matching(kinds: readonly ResourceKind[], wanted: string): ResourceKind | undefined {
  const name = Object.hasOwn(SHORT_NAMES, wanted) ? SHORT_NAMES[wanted] : wanted;
  return kinds.find((kind) => kind.plural === name || kind.kind.toLowerCase() === name || resourceName(kind) === name);
}

async function definedKinds(store: Store): Promise<ResourceKind[]> {
  let crds;
  try {
    crds = await store.list(CUSTOM_RESOURCE_DEFINITION);
  } catch (error) {
    // Without the right to list them, only the usual kinds are known.
    if (error instanceof StoreError && error.code === "FORBIDDEN") return [];
    throw error;
  }
  return crds.flatMap(({ spec }) => {
    const version = spec?.versions?.find(({ storage }) => storage === true)?.name;
    const { plural, kind } = spec?.names ?? {};
    if (spec?.group === undefined || version === undefined || plural === undefined || kind === undefined) return [];
    const { scope } = spec as { readonly scope?: string };
    return [{ group: spec.group, version, kind, plural, namespaced: scope !== "Cluster" }];
  });
}
