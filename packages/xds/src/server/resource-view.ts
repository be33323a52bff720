import { fromBinary } from "@bufbuild/protobuf";
import { ads } from "@tulle/api";
import { type CachedResource, encodeResource, type ResourceSource } from "./resource-cache.ts";

/** A type that has no resources of its own: they are those of another type, or some of them, said differently. */
export interface TypeView {
  /** The type URL of the other type. */
  readonly of: string;
  /** Whether a resource of the other type with this name, be it gone, is one of this type. */
  readonly owns: (name: string) => boolean;
  /** From an encoded message of the other type to one of this type. */
  readonly convert: (bytes: Uint8Array) => Uint8Array;
}

/** Nothing is kept: for types that few clients still ask for. */
export class ResourceView implements ResourceSource {
  readonly typeUrl: string;
  readonly #view: TypeView;
  readonly #base: ResourceSource;

  constructor(typeUrl: string, view: TypeView, base: ResourceSource) {
    this.typeUrl = typeUrl;
    this.#view = view;
    this.#base = base;
  }

  get sequence(): number {
    return this.#base.sequence;
  }

  get(name: string): CachedResource | undefined {
    const resource = this.#view.owns(name) ? this.#base.get(name) : undefined;
    return resource && this.#convert(resource);
  }

  *all(): Iterable<CachedResource> {
    for (const resource of this.#base.all()) if (this.#view.owns(resource.name)) yield this.#convert(resource);
  }

  *find(key: string): Iterable<CachedResource> {
    for (const resource of this.#base.find(key)) if (this.#view.owns(resource.name)) yield this.#convert(resource);
  }

  /** Those of the changed names that are of this type. */
  select(names: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
    return new Map([...names].filter(([name]) => this.#view.owns(name)));
  }

  #convert(resource: CachedResource): CachedResource {
    const { name, version } = resource;
    const value = fromBinary(ads.ResourceSchema, resource.encoded).resource?.value ?? new Uint8Array();
    return { ...resource, encoded: encodeResource(this.typeUrl, name, version, this.#view.convert(value)) };
  }
}
