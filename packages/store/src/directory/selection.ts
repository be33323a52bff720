import type { KubeObject, Selection } from "../contract.ts";
import { isMap, type Json } from "./json-value.ts";

/** Whether an object belongs to a selection. A field that is not there counts as empty, as with the API server. */
export function selects(selection: Selection | undefined, object: KubeObject): boolean {
  if (selection === undefined) return true;
  const { namespace, labels = {}, fields = {} } = selection;
  if (namespace !== undefined && object.metadata.namespace !== namespace) return false;
  for (const [name, value] of Object.entries(labels)) if (object.metadata.labels?.[name] !== value) return false;
  for (const [path, value] of Object.entries(fields)) if (fieldAt(object, path) !== value) return false;
  return true;
}

function fieldAt(object: KubeObject, path: string): string {
  let value: Json | undefined = object as unknown as Json;
  for (const step of path.split(".")) value = isMap(value) ? value[step] : undefined;
  if (typeof value === "string") return value;
  return value === undefined || value === null ? "" : JSON.stringify(value);
}
