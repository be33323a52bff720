import { connect, createServer } from "node:net";
import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  kindOf,
  type KubeObject,
  type ObjectRef,
  resourceName,
  type ResourceKind,
  type Selection,
  type Store,
  StoreError,
} from "@tulle/store";
import type { Cluster } from "../src/kube/cluster.ts";

/** What a pod answers: by `namespace/name:port`, the body for a method and path. */
export type PodAnswers = Readonly<Record<string, (method: string, path: string) => { status?: number; body: string }>>;

/** A cluster that holds these objects and cannot be written; its pods' ports are served on loopback. */
export async function memoryCluster(objects: readonly KubeObject[], answers: PodAnswers = {}): Promise<Cluster> {
  const servers = new Map<string, { readonly port: number; readonly close: () => void }>();
  for (const [where, answer] of Object.entries(answers)) {
    const server = createHttpServer((request, response) => {
      const { status = 200, body } = answer(request.method ?? "", request.url ?? "");
      response.writeHead(status, { "content-type": "text/plain" }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    servers.set(where, { port: (server.address() as AddressInfo).port, close: () => server.close() });
  }
  return {
    name: "kubeconfig test, context test",
    namespace: "default",
    store: readOnlyStore(objects),
    serverVersion: () => Promise.resolve("v1.36.3"),
    dial: async ({ namespace, name }, port) => {
      const server = servers.get(`${namespace}/${name}:${port}`);
      // As a pod without a listener: the connection is closed at once.
      if (server === undefined) return refusedConnection();
      return connect(server.port, "127.0.0.1");
    },
    [Symbol.asyncDispose]: () => {
      for (const { close } of servers.values()) close();
      return Promise.resolve();
    },
  };
}

async function refusedConnection() {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  socket.once("close", () => server.close());
  return socket;
}

function readOnlyStore(objects: readonly KubeObject[]): Store {
  const of = (kind: ResourceKind) =>
    objects.filter((object) => kindOf(object)?.plural === kind.plural && kindOf(object)?.group === kind.group);
  const refuse = (kind: ResourceKind) =>
    Promise.reject(new StoreError("FORBIDDEN", `${resourceName(kind)} cannot be written in this test`));
  const store: Partial<Store> = {
    name: "memory",
    list: (kind: ResourceKind, selection: Selection = {}) =>
      Promise.resolve(of(kind).filter((object) => selects(selection, object)) as never[]),
    get: (kind: ResourceKind, ref: ObjectRef) =>
      Promise.resolve(
        of(kind).find(
          ({ metadata }) => metadata.name === ref.name && (!kind.namespaced || metadata.namespace === ref.namespace),
        ) as never,
      ),
    create: (kind: ResourceKind) => refuse(kind),
    apply: (kind: ResourceKind) => refuse(kind),
    patch: (kind: ResourceKind) => refuse(kind),
    delete: (kind: ResourceKind) => refuse(kind),
  };
  return store as Store;
}

function selects({ namespace, labels = {}, fields = {} }: Selection, object: KubeObject): boolean {
  const { metadata } = object;
  if (namespace !== undefined && metadata.namespace !== namespace) return false;
  if (!Object.entries(labels).every(([key, value]) => metadata.labels?.[key] === value)) return false;
  return Object.entries(fields).every(([path, wanted]) => {
    let value: unknown = object;
    for (const part of path.split(".")) value = (value as Readonly<Record<string, unknown>> | undefined)?.[part];
    return value === wanted;
  });
}
