import { sleep } from "@tulle/base";
import {
  CONFIG_MAP,
  type ConfigMap,
  type KubeObject,
  NAMESPACE,
  POD,
  type Pod,
  type Selection,
  type ResourceKind,
  type Store,
  type Watch,
} from "@tulle/store";

export type OpenStore = (component?: string) => Promise<Store>;

/** Longer than any delivery takes on a busy machine; a failure is reported by what was awaited. */
const PATIENCE_MS = 15_000;

let serial = 0;

/** A fresh namespace, so that tests do not meet. */
export async function freshNamespace(store: Store): Promise<string> {
  serial += 1;
  const name = `t${process.pid}-${serial}`;
  await store.create(NAMESPACE, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  return name;
}

export function configMap(
  namespace: string,
  name: string,
  data: Readonly<Record<string, string>>,
  labels?: Readonly<Record<string, string>>,
): ConfigMap {
  const metadata = { namespace, name, ...(labels === undefined ? {} : { labels }) };
  return { apiVersion: "v1", kind: "ConfigMap", metadata, data };
}

export function pod(namespace: string, name: string, nodeName: string): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace, name },
    spec: { nodeName, containers: [{ name: "main", image: "none" }] },
  };
}

export const makeConfigMap = (store: Store, ...args: Parameters<typeof configMap>): Promise<ConfigMap> =>
  store.create(CONFIG_MAP, configMap(...args));
export const makePod = (store: Store, ...args: Parameters<typeof pod>): Promise<Pod> => store.create(POD, pod(...args));

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS / 1000} s for: ${what}`);
    await sleep(10);
  }
}

export interface Recording<T extends KubeObject> extends Disposable {
  readonly watch: Watch<T>;
  /** `put name`, `gone name`, `synced`, in the order of the calls. */
  readonly calls: readonly string[];
  readonly objects: readonly T[];
}

/** A watch that writes down what it is told. */
export function record<T extends KubeObject>(store: Store, kind: ResourceKind<T>, selection: Selection): Recording<T> {
  const calls: string[] = [];
  const objects: T[] = [];
  const tell = (what: string) => (object: T) => {
    calls.push(`${what} ${object.metadata.name}`);
    objects.push(object);
  };
  const handler = { put: tell("put"), gone: tell("gone"), synced: () => void calls.push("synced") };
  const watch = store.watch(kind, handler, selection);
  return { watch, calls, objects, [Symbol.dispose]: () => watch.close() };
}
