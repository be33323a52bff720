import { apiVersionOf, type KubeObject, resourceName } from "@tulle/store";
import { CliError } from "../cli-error.ts";
import type { MeshFlags } from "../command.ts";
import type { CliContext } from "../context.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { renderTable } from "../ui/table.ts";
import { objectTable } from "./columns.ts";
import { findKind } from "./kind-names.ts";

export interface GetFlags extends Pick<MeshFlags, "kubeconfig" | "context" | "local"> {
  readonly namespace?: string | undefined;
  readonly allNamespaces: boolean;
  readonly output: OutputFormat;
}

/** As kubectl sets columns apart. */
const GAP = 3;

/** `tulle get KIND [NAME]`: objects as they are, with their status. */
export async function get(context: CliContext, flags: GetFlags, kindName: string, name?: string): Promise<void> {
  if (flags.allNamespaces && name !== undefined) {
    throw new CliError("a name and --all-namespaces exclude each other", "name the namespace: --namespace");
  }
  await using cluster = await context.connect(flags);
  const { store } = cluster;
  const kind = await findKind(store, kindName);
  const namespace = !kind.namespaced || flags.allNamespaces ? undefined : (flags.namespace ?? cluster.namespace);
  const where = namespace === undefined ? "" : ` in the namespace ${namespace}`;
  let objects: readonly KubeObject[];
  if (name === undefined) {
    objects = await store.list(kind, namespace === undefined ? {} : { namespace });
  } else {
    const object = await store.get(kind, namespace === undefined ? { name } : { namespace, name });
    if (object === undefined) {
      throw new CliError(
        `there is no ${resourceName(kind)} ${name}${where}`,
        `see what there is: tulle get ${kind.plural} -A`,
      );
    }
    objects = [object];
  }
  const shown = objects.map((object) => withoutNoise(object)).toSorted(byName);
  const { stdout, stderr } = context.process;
  if (flags.output === "json" || flags.output === "yaml") {
    const apiVersion = apiVersionOf(kind);
    const list = {
      apiVersion: "v1",
      kind: "List",
      items: shown.map((object) => ({ ...object, apiVersion, kind: kind.kind })),
    };
    stdout.write(await structured(name === undefined ? list : list.items[0], flags.output));
    return;
  }
  if (shown.length === 0) {
    stderr.write(`No ${resourceName(kind)}${where}.\n`);
    return;
  }
  const wide = flags.output === "wide";
  const namespaces = kind.namespaced && namespace === undefined;
  stdout.write(renderTable(objectTable(kind.kind, shown, { namespaces, wide, now: Date.now() }), GAP));
}

/** Who owns which field is nobody's interest here. */
function withoutNoise(object: KubeObject): KubeObject {
  const { managedFields: _managedFields, ...metadata } = object.metadata as KubeObject["metadata"] & {
    managedFields?: unknown;
  };
  return { ...object, metadata };
}

function byName(a: KubeObject, b: KubeObject): number {
  const [left, right] = [
    `${a.metadata.namespace ?? ""}/${a.metadata.name}`,
    `${b.metadata.namespace ?? ""}/${b.metadata.name}`,
  ];
  return left < right ? -1 : 1;
}
