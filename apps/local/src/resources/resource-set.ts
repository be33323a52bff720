import type { Images } from "./images.ts";
import { type Deployment, describe, type Kind, keyOf, type Resource } from "./kinds.ts";
import type { Located, Problem } from "./read-file.ts";

/** Everything that the user's directory asks for. */
export interface ResourceSet {
  readonly resources: readonly Resource[];
  readonly images: Images;
}

export const EMPTY_SET: ResourceSet = { resources: [], images: new Map() };

export function ofKind<K extends Kind>(set: ResourceSet, kind: K): Extract<Resource, { kind: K }>[] {
  return set.resources.filter((resource): resource is Extract<Resource, { kind: K }> => resource.kind === kind);
}

/** Exist without being declared, as on a cluster. */
const BUILT_IN_NAMESPACES = ["default"];
/** Its pods belong to the mesh itself. */
export const RESERVED_NAMESPACES = ["tulle-ingress"];
const DEFAULT_SERVICE_ACCOUNT = "default";

/** What cannot be seen in one document alone: each problem names the document that has to change. */
export function checkTogether(located: readonly Located[], images: Images): Problem[] {
  const problems: Problem[] = [];
  const first = new Map<string, Located>();
  for (const one of located) {
    const id = describe(one.resource);
    const other = first.get(id);
    if (other === undefined) first.set(id, one);
    else problems.push(problem(one, `${id} is already declared in ${other.file}:${other.line}`));
  }
  const has = (kind: Kind, key: string) => first.has(`${kind} ${key}`);
  for (const one of located) {
    const { resource } = one;
    const { namespace, name } = resource.metadata;
    if (RESERVED_NAMESPACES.includes(resource.kind === "Namespace" ? name : namespace)) {
      problems.push(problem(one, `${describe(resource)}: the namespace is reserved for the mesh itself`));
    } else if (namespace !== "" && !BUILT_IN_NAMESPACES.includes(namespace) && !has("Namespace", namespace)) {
      problems.push(problem(one, `${describe(resource)}: namespace ${namespace} is not declared in this directory`));
    }
    if (resource.kind === "Deployment") {
      for (const message of deploymentProblems(resource, images, has)) {
        problems.push(problem(one, `${describe(resource)}: ${message}`));
      }
    }
    if (resource.kind === "Service") {
      for (const message of portProblems(resource.spec.ports ?? [], "service port")) {
        problems.push(problem(one, `${describe(resource)}: ${message}`));
      }
    }
  }
  return problems;
}

function deploymentProblems(
  deployment: Deployment,
  images: Images,
  has: (kind: Kind, key: string) => boolean,
): readonly string[] {
  const messages: string[] = [];
  const { template, selector } = deployment.spec;
  const account = template.spec.serviceAccountName ?? DEFAULT_SERVICE_ACCOUNT;
  const accountKey = `${deployment.metadata.namespace}/${account}`;
  if (account !== DEFAULT_SERVICE_ACCOUNT && !has("ServiceAccount", accountKey)) {
    messages.push(`service account ${accountKey} is not declared in this directory`);
  }
  const wanted = Object.entries(selector.matchLabels ?? {});
  if (wanted.length === 0) messages.push("spec.selector.matchLabels must not be empty");
  for (const [label, value] of wanted) {
    if (template.metadata.labels[label] !== value) {
      messages.push(`spec.selector asks for ${label}=${value}, which spec.template.metadata.labels does not have`);
    }
  }
  const names = new Set<string>();
  for (const container of template.spec.containers) {
    if (names.has(container.name)) messages.push(`two containers are named ${container.name}`);
    names.add(container.name);
    if (container.command !== undefined) continue;
    if (container.image === undefined)
      messages.push(`container ${container.name} needs a command (or an image that images.yaml knows)`);
    else if (!images.has(container.image)) {
      messages.push(
        `image ${container.image} of container ${container.name} is not in images.yaml: add it there, or give the container a command`,
      );
    }
  }
  const ports = template.spec.containers.flatMap((container) => container.ports ?? []);
  messages.push(
    ...portProblems(
      ports.map((port) => ({ ...port, port: port.containerPort })),
      "container port",
    ),
  );
  return messages;
}

function portProblems(ports: readonly { readonly name?: string; readonly port: number }[], what: string): string[] {
  const messages: string[] = [];
  const seen = new Set<string | number>();
  for (const { name, port } of ports) {
    for (const id of name === undefined ? [port] : [port, name]) {
      if (seen.has(id)) messages.push(`${what} ${id} is declared twice`);
      seen.add(id);
    }
  }
  return messages;
}

function problem(where: Located, message: string): Problem {
  return { file: where.file, line: where.line, message };
}

/** Two sets that ask for the same. */
export function sameSet(a: ResourceSet, b: ResourceSet): boolean {
  const text = (set: ResourceSet) => JSON.stringify([set.resources.map((one) => [keyOf(one), one]), [...set.images]]);
  return text(a) === text(b);
}
