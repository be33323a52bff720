/** Network configurations of CNI as text: the entry of our plugin in and out (CNI 1.1, "Network configuration format"). */

export type JsonObject = Readonly<Record<string, unknown>>;

/** A configuration that a runtime would take. */
export interface NetworkList {
  readonly content: JsonObject;
  readonly plugins: readonly JsonObject[];
  /** It was a single plugin's configuration, which can hold no second one. */
  readonly wrapped: boolean;
}

export const PLUGIN_TYPE = "istio-cni";
/** The oldest version that chains plugins by prevResult as ours understands it. */
const LIST_VERSION = "0.3.1";
const KNOWN_VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/** For a single configuration without a name. With one, it stays: host-local keeps its addresses under it. */
const LIST_NAME = "k8s-pod-network";

/** Undefined: no runtime would take this file. `isList`: it is named .conflist. */
export function parseNetworkList(text: string, isList: boolean): NetworkList | undefined {
  const content = parseObject(text);
  if (content === undefined) return undefined;
  if (!isList) {
    if (typeof content.type !== "string" || content.type === "") return undefined;
    const { cniVersion, name } = content;
    const version = KNOWN_VERSIONS.find((known) => known === cniVersion) ?? LIST_VERSION;
    const listName = typeof name === "string" && name !== "" ? name : LIST_NAME;
    return { content: { cniVersion: version, name: listName }, plugins: [content], wrapped: true };
  }
  const { name, plugins } = content;
  if (typeof name !== "string" || name === "" || !Array.isArray(plugins) || plugins.length === 0) return undefined;
  if (!plugins.every((plugin) => isObject(plugin) && typeof plugin.type === "string")) return undefined;
  return { content, plugins: plugins as JsonObject[], wrapped: false };
}

/** Whether the list holds this entry, and no other of our type. */
export function holdsEntry({ plugins }: NetworkList, entry: JsonObject): boolean {
  const ours = plugins.filter(isOurs);
  return ours.length === 1 && sameJson(ours[0], entry);
}

export function hasOurs({ plugins }: NetworkList): boolean {
  return plugins.some(isOurs);
}

/** The list with our entry at the end, behind every plugin that makes the pod's network. */
export function withEntry({ content, plugins }: NetworkList, entry: JsonObject): string {
  return print({ ...content, plugins: [...plugins.filter((plugin) => !isOurs(plugin)), entry] });
}

export function withoutEntry({ content, plugins }: NetworkList): string {
  return print({ ...content, plugins: plugins.filter((plugin) => !isOurs(plugin)) });
}

/** Whether ours is all there is: then no network would be left. */
export function onlyOurs({ plugins }: NetworkList): boolean {
  return plugins.every(isOurs);
}

function isOurs(plugin: JsonObject): boolean {
  return plugin.type === PLUGIN_TYPE;
}

function print(value: JsonObject): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Whatever the order of keys. */
function sameJson(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => sameJson(item, b[i]));
  if (!isObject(a) || !isObject(b)) return a === b;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
  );
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    // Half-written, or of another kind: not valid is all that matters.
    return undefined;
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
