import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { LOCAL_RUN_FOLDER, LOCAL_STATE_FOLDER, messageOf, PID_ANNOTATION } from "@tulle/base";
import { connectFrom, processStartTime } from "@tulle/lab";
import { POD, type Store } from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
import { CliError } from "../cli-error.ts";
import type { Cluster } from "./cluster.ts";

/** Meshes of this machine, seen as clusters: the objects are files, and pods are processes. */

export interface LocalMesh {
  readonly name: string;
  /** Folder of its objects. */
  readonly state: string;
  /** The process that runs it. Undefined: it does not run. */
  readonly owner: number | undefined;
}

/** Where a local mesh notes its process, and the folder of its state that tells it from any other. */
const OWNER_FILE = "owner.json";
const OBJECTS_FOLDER = "objects";
const LOOPBACK = "127.0.0.1";

/** Those that have ever run and were not forgotten. */
export function localMeshes(): LocalMesh[] {
  const names = existsSync(LOCAL_STATE_FOLDER) ? readdirSync(LOCAL_STATE_FOLDER).sort() : [];
  return names.map((name) => ({ name, state: join(LOCAL_STATE_FOLDER, name), owner: ownerOf(name) }));
}

/** Running or not. Rejects with CliError when there is no such mesh, or it cannot be read. */
export async function connectLocal(name: string): Promise<Cluster> {
  const meshes = localMeshes();
  const mesh = meshes.find((one) => one.name === name);
  if (mesh === undefined) {
    const others = meshes.map((one) => one.name).join(", ");
    const next =
      others === "" ? "start one: tulle up DIR" : `there are: ${others}; start another: tulle up DIR --name ${name}`;
    throw new CliError(`there is no local mesh ${name}`, next);
  }
  if (process.geteuid?.() !== 0) throw new CliError("the local mesh belongs to root", "run it with sudo");
  if (!existsSync(join(mesh.state, OBJECTS_FOLDER))) {
    throw new CliError(`the local mesh ${name} holds no objects yet`, "wait until tulle up has read the directory");
  }
  const store = await DirectoryStore.open({ directory: undefined, state: mesh.state, component: "tulle" });
  return new LocalCluster(mesh, store);
}

class LocalCluster implements Cluster {
  readonly name: string;
  readonly namespace = "default";
  readonly store: Store;
  readonly #mesh: LocalMesh;

  constructor(mesh: LocalMesh, store: Store) {
    this.#mesh = mesh;
    this.store = store;
    this.name = `the local mesh ${mesh.name}`;
  }

  serverVersion(): Promise<string> {
    const { name, owner } = this.#mesh;
    return Promise.resolve(`none (local mesh ${name}${owner === undefined ? ", not running" : ""})`);
  }

  async dial(pod: { readonly namespace: string; readonly name: string }, port: number): Promise<Duplex> {
    const where = `pod ${pod.namespace}/${pod.name}, port ${port}`;
    const pid = (await this.store.get(POD, pod))?.metadata.annotations?.[PID_ANNOTATION];
    if (this.#mesh.owner === undefined || pid === undefined) {
      throw new CliError(
        `cannot reach ${where}: ${this.name} does not run`,
        `start it: tulle up DIR --name ${this.#mesh.name}`,
      );
    }
    try {
      return await connectFrom(`/proc/${Number(pid)}/ns/net`, { ip: LOOPBACK, port });
    } catch (error) {
      throw new CliError(
        `cannot reach ${where}: ${messageOf(error)}`,
        `see its log in ${join(LOCAL_RUN_FOLDER, this.#mesh.name, "logs")}`,
        error,
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
  }
}

function ownerOf(name: string): number | undefined {
  try {
    const { pid, started } = JSON.parse(readFileSync(join(LOCAL_RUN_FOLDER, name, OWNER_FILE), "utf8")) as {
      readonly pid?: unknown;
      readonly started?: unknown;
    };
    return typeof pid === "number" && processStartTime(pid) === started ? pid : undefined;
  } catch {
    // It does not run, or whoever asks may not know.
    return undefined;
  }
}
