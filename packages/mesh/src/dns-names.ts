/** A name under which a service may be known that was asked for by another. */
export interface NameAlias {
  readonly name: string;
  /** What was asked for without its search domain; undefined when nothing was cut off. */
  readonly stripped: string | undefined;
}

/** The search list of a pod: `<ns>.svc.<domain>`, `svc.<domain>`, `<domain>`. */
export function searchDomainsOf(namespace: string, clusterDomain: string): readonly string[] {
  return [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
}

/**
 * Every name that the question may mean, in the order in which they are tried: as it is, with Kubernetes' short forms
 * written out, then the same with a search domain cut off, which a resolver had put there at its first attempt
 * (`example.com.ns.svc.cluster.local`).
 */
export function aliasesOf(
  asked: string,
  namespace: string,
  clusterDomain: string,
  searchDomains: readonly string[],
): readonly NameAlias[] {
  const aliases = new Map<string, NameAlias>();
  const add = (names: readonly string[], stripped: string | undefined) => {
    for (const name of names) if (!aliases.has(name)) aliases.set(name, { name, stripped });
  };
  add(kubernetesNames(asked, namespace, clusterDomain), undefined);
  for (const domain of searchDomains) {
    if (domain === "" || !asked.endsWith(`.${domain}`)) continue;
    const stripped = asked.slice(0, -domain.length - 1);
    if (stripped !== "") add(kubernetesNames(stripped, namespace, clusterDomain), stripped);
  }
  return [...aliases.values()];
}

/** The name itself and, by its number of labels, what Kubernetes would make of it. */
export function kubernetesNames(name: string, namespace: string, clusterDomain: string): readonly string[] {
  const isService = name.endsWith(".svc");
  switch (name.split(".").length) {
    case 1:
      return [name, `${name}.${namespace}.svc.${clusterDomain}`];
    case 2:
      return [name, `${name}.svc.${clusterDomain}`, `${name}.${namespace}.svc.${clusterDomain}`];
    case 3:
      return [name, ...(isService ? [`${name}.${clusterDomain}`] : []), `${name}.svc.${clusterDomain}`];
    case 4:
      return isService ? [name, `${name}.${clusterDomain}`] : [name];
    default:
      return [name];
  }
}

/** `*.b.c`, `*.c` for `a.b.c`: the most specific first. */
export function wildcardsOf(name: string): readonly string[] {
  const labels = name.split(".");
  return labels.slice(1).map((_, i) => `*.${labels.slice(i + 1).join(".")}`);
}
