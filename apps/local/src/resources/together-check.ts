import { SYSTEM_NAMESPACE } from "@tulle/base";
import type { Declared, Problem } from "@tulle/store/directory";
import type { Images } from "./images.ts";
import { type Deployment, describe, type Service } from "./kinds.ts";

/** The mesh's own pods run there. */
export const INGRESS_NAMESPACE = "tulle-ingress";
/** The user may put policies there, but neither pods nor what belongs to them. */
const NO_PODS = new Set([SYSTEM_NAMESPACE, "kube-system"]);
const POD_KINDS = new Set(["Deployment", "Service", "ServiceAccount"]);
const DEFAULT_SERVICE_ACCOUNT = "default";

/** What cannot be seen in one document alone: each problem names the document that has to change. */
export function checkTogether(declared: readonly Declared[], images: Images): Problem[] {
  const ids = new Set(declared.map(({ object }) => describe(object)));
  return declared.flatMap((one) => {
    const { kind, metadata } = one.object;
    const home = kind === "Namespace" ? metadata.name : (metadata.namespace ?? "");
    const messages: string[] = [];
    if (home === INGRESS_NAMESPACE || (NO_PODS.has(home) && POD_KINDS.has(kind))) {
      messages.push("the namespace is reserved for the mesh itself");
    }
    if (kind === "Deployment") messages.push(...deploymentProblems(one.object as Deployment, images, ids));
    if (kind === "Service") messages.push(...portProblems((one.object as Service).spec.ports ?? [], "service port"));
    return messages.map((text) => ({
      file: one.file,
      line: one.line,
      message: `${describe(one.object)}: ${text}`,
    }));
  });
}

function deploymentProblems(deployment: Deployment, images: Images, ids: ReadonlySet<string>): readonly string[] {
  const messages: string[] = [];
  const { template, selector } = deployment.spec;
  const account = template.spec.serviceAccountName ?? DEFAULT_SERVICE_ACCOUNT;
  const accountKey = `${deployment.metadata.namespace}/${account}`;
  if (account !== DEFAULT_SERVICE_ACCOUNT && !ids.has(`ServiceAccount ${accountKey}`)) {
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
