import { createHash } from "node:crypto";
import { gzipSync, constants as zlib, zstdCompressSync } from "node:zlib";
import { type TarEntry, tarOf } from "./tar.ts";

/** OCI images as one file, to be read by `ctr images import`, `skopeo` or `docker load` (OCI image spec 1.1). */

export type Compression = "none" | "gzip" | "zstd";

export interface Layer {
  readonly mediaType: string;
  /** `sha256:…` of `blob`, which is compressed or not. */
  readonly digest: string;
  /** `sha256:…` of the tar. */
  readonly diffId: string;
  readonly blob: Uint8Array;
  /** What made it, for `docker history`. */
  readonly comment: string;
}

export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** `uid:gid`. */
  readonly user: string;
  readonly workingDir?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface Image {
  /** `docker.io/tulle/ztunnel:0.1.0`. */
  readonly reference: string;
  readonly layers: readonly Layer[];
  readonly config: ImageConfig;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const TYPE = "application/vnd.oci.image";
const SUFFIXES: Readonly<Record<Compression, string>> = { none: "", gzip: "+gzip", zstd: "+zstd" };
/** Further levels cost many times the time for a few per cent. */
const ZSTD_LEVEL = 6;
const PLATFORM = { architecture: "amd64", os: "linux" } as const;
/** The same content gives the same digest on every day. */
const CREATED = "1970-01-01T00:00:00Z";

export function layerOf(entries: Iterable<TarEntry>, compression: Compression, comment: string): Layer {
  const tar = tarOf(entries);
  const blob = compress(tar, compression);
  const mediaType = `${TYPE}.layer.v1.tar${SUFFIXES[compression]}`;
  return { mediaType, digest: digestOf(blob), diffId: digestOf(tar), blob, comment };
}

/** The archive of one or several images; a layer that they share is in it once. */
export function archiveOf(images: readonly Image[]): { readonly archive: Buffer; readonly digests: readonly string[] } {
  const blobs = new Map<string, Uint8Array>();
  const manifests = images.map(({ reference, layers, config }) => {
    const put = (mediaType: string, blob: Uint8Array): Descriptor => {
      const digest = digestOf(blob);
      blobs.set(digest, blob);
      return { mediaType, digest, size: blob.length };
    };
    for (const layer of layers) blobs.set(layer.digest, layer.blob);
    const configuration = put(`${TYPE}.config.v1+json`, json(configOf(layers, config)));
    const manifest = put(
      `${TYPE}.manifest.v1+json`,
      json({
        schemaVersion: 2,
        mediaType: `${TYPE}.manifest.v1+json`,
        config: configuration,
        layers: layers.map(({ mediaType, digest, blob }) => ({ mediaType, digest, size: blob.length })),
      }),
    );
    const annotations = {
      "io.containerd.image.name": reference,
      "org.opencontainers.image.ref.name": reference.slice(reference.lastIndexOf(":") + 1),
    };
    return { ...manifest, platform: PLATFORM, annotations };
  });
  const files: TarEntry[] = [
    { kind: "file", path: "oci-layout", data: json({ imageLayoutVersion: "1.0.0" }) },
    {
      kind: "file",
      path: "index.json",
      data: json({ schemaVersion: 2, mediaType: `${TYPE}.index.v1+json`, manifests }),
    },
  ];
  for (const [digest, data] of blobs) files.push({ kind: "file", path: `blobs/${digest.replace(":", "/")}`, data });
  return { archive: tarOf(files), digests: manifests.map(({ digest }) => digest) };
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function configOf(layers: readonly Layer[], config: ImageConfig): unknown {
  return {
    created: CREATED,
    ...PLATFORM,
    config: {
      User: config.user,
      Entrypoint: config.entrypoint,
      ...(config.cmd && { Cmd: config.cmd }),
      Env: Object.entries(config.env ?? {}).map(([name, value]) => `${name}=${value}`),
      WorkingDir: config.workingDir ?? "/",
      ...(config.labels && { Labels: config.labels }),
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(({ comment }) => ({ created: CREATED, created_by: comment })),
  };
}

function compress(tar: Uint8Array, compression: Compression): Uint8Array {
  switch (compression) {
    case "none":
      return tar;
    case "gzip":
      return gzipSync(tar);
    case "zstd":
      return zstdCompressSync(tar, { params: { [zlib.ZSTD_c_compressionLevel]: ZSTD_LEVEL } });
    default:
      return compression satisfies never;
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
