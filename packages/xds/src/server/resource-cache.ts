import { hash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { ads } from "@tulle/api";

/** A resource to serve. `bytes` is the encoded message of the cache's type. */
export interface ResourceInput {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Other names by which it can be asked for: `<network>/<ip>` of an Address. */
  readonly aliases?: readonly string[];
  /** Keys whose subscribers get it too, such as the services of a workload, or `node:<name>`. */
  readonly groups?: readonly string[];
}

export interface ResourceUpdate {
  readonly changed?: readonly ResourceInput[];
  readonly removed?: readonly string[];
}

/** A resource, encoded once for all clients. */
export interface CachedResource {
  readonly name: string;
  /** Hash of the content. */
  readonly version: string;
  /** An encoded envoy.service.discovery.v3.Resource, without aliases. */
  readonly encoded: Uint8Array;
  readonly aliases: readonly string[];
  /** Name, aliases and groups. */
  readonly keys: readonly string[];
}

/** Resources as subscriptions look them up. */
export interface ResourceSource {
  readonly typeUrl: string;
  /** How many changes there have been. */
  readonly sequence: number;
  get(name: string): CachedResource | undefined;
  all(): Iterable<CachedResource>;
  /** The resources with this name, alias or group. */
  find(key: string): Iterable<CachedResource>;
}

const VERSION_LENGTH = 16;

/** The resources of one type, each encoded once, found by name, alias and group. */
export class ResourceCache implements ResourceSource {
  readonly typeUrl: string;
  readonly #resources = new Map<string, CachedResource>();
  readonly #byKey = new Map<string, Set<string>>();
  /** When a name last changed or went, counted in changes. */
  #sequence = 0;

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  /** How many changes there have been. */
  get sequence(): number {
    return this.#sequence;
  }

  get size(): number {
    return this.#resources.size;
  }

  get(name: string): CachedResource | undefined {
    return this.#resources.get(name);
  }

  all(): Iterable<CachedResource> {
    return this.#resources.values();
  }

  /** The resources with this name, alias or group. */
  *find(key: string): Iterable<CachedResource> {
    for (const name of this.#byKey.get(key) ?? []) {
      const resource = this.#resources.get(name);
      if (resource !== undefined) yield resource;
    }
  }

  /** Takes in a change; returns the names whose content really changed, or that are gone, each with its place in the order. */
  update({ changed = [], removed = [] }: ResourceUpdate): Map<string, number> {
    const names = new Map<string, number>();
    for (const input of changed) if (this.#set(input)) names.set(input.name, ++this.#sequence);
    for (const name of removed) if (this.#delete(name)) names.set(name, ++this.#sequence);
    return names;
  }

  #set(input: ResourceInput): boolean {
    const { name, bytes, aliases = [], groups = [] } = input;
    const version = hash("sha256", bytes).slice(0, VERSION_LENGTH);
    const keys = [name, ...aliases, ...groups];
    const old = this.#resources.get(name);
    const same = old?.version === version;
    if (same && old.keys.length === keys.length && keys.every((key, i) => key === old.keys[i])) return false;
    if (old !== undefined) this.#unlink(old);
    const encoded = same ? old.encoded : encodeResource(this.typeUrl, name, version, bytes);
    this.#resources.set(name, { name, version, encoded, aliases, keys });
    for (const key of keys) {
      const names = this.#byKey.get(key);
      if (names === undefined) this.#byKey.set(key, new Set([name]));
      else names.add(name);
    }
    return true;
  }

  #delete(name: string): boolean {
    const old = this.#resources.get(name);
    if (old === undefined) return false;
    this.#unlink(old);
    this.#resources.delete(name);
    return true;
  }

  #unlink(resource: CachedResource): void {
    for (const key of resource.keys) {
      const names = this.#byKey.get(key);
      names?.delete(resource.name);
      if (names?.size === 0) this.#byKey.delete(key);
    }
  }
}

/** An encoded envoy.service.discovery.v3.Resource. */
export function encodeResource(typeUrl: string, name: string, version: string, bytes: Uint8Array): Uint8Array {
  const resource = { typeUrl, value: bytes };
  return toBinary(ads.ResourceSchema, create(ads.ResourceSchema, { name, version, resource }));
}

/** The encoded resource with its aliases: protobuf fields may follow in any order, so they are put at the end. */
export function withAliases(resource: CachedResource): Uint8Array {
  if (resource.aliases.length === 0) return resource.encoded;
  const aliases = toBinary(ads.ResourceSchema, create(ads.ResourceSchema, { aliases: [...resource.aliases] }));
  return Buffer.concat([resource.encoded, aliases]);
}
