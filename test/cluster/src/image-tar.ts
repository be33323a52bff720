import { createHash } from "node:crypto";

/** A file of an image. */
export interface ImageFile {
  /** Absolute, as a container sees it. */
  readonly path: string;
  readonly content: Uint8Array;
  /** Default 0o755. */
  readonly mode?: number;
}

export interface ImageOptions {
  /** `registry/name:tag`: what containerd lists the image as. */
  readonly reference: string;
  readonly entrypoint: readonly string[];
  readonly files: readonly ImageFile[];
  /** As the image specification spells it: `amd64`, `arm64`. */
  readonly architecture: string;
}

const BLOCK_BYTES = 512;
const DIRECTORY = "5";
const REGULAR = "0";
const MEDIA = "application/vnd.oci.image";
/** What programs look up when they ask who they are. */
const PASSWD = "root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n";
const GROUP = "root:x:0:\nnogroup:x:65534:\n";

/** An image of one layer as an OCI layout in a tar (OCI image specification v1.1), which `ctr images import` takes. */
export function imageTar(options: ImageOptions): Buffer {
  const blobs = new Map<string, Buffer>();
  const put = (mediaType: string, content: Buffer) => {
    const digest = createHash("sha256").update(content).digest("hex");
    blobs.set(digest, content);
    return { mediaType: `${MEDIA}.${mediaType}`, digest: `sha256:${digest}`, size: content.length };
  };
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));

  const layer = put("layer.v1.tar", layerTar(options.files));
  const config = put(
    "config.v1+json",
    json({
      architecture: options.architecture,
      os: "linux",
      config: { Entrypoint: options.entrypoint, Env: ["PATH=/:/bin"] },
      rootfs: { type: "layers", diff_ids: [layer.digest] },
    }),
  );
  const manifest = put(
    "manifest.v1+json",
    json({ schemaVersion: 2, mediaType: `${MEDIA}.manifest.v1+json`, config, layers: [layer] }),
  );
  const annotations = {
    "io.containerd.image.name": options.reference,
    "org.opencontainers.image.ref.name": options.reference.slice(options.reference.lastIndexOf(":") + 1),
  };
  return Buffer.concat([
    entry("oci-layout", json({ imageLayoutVersion: "1.0.0" }), 0o644),
    entry("index.json", json({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }), 0o644),
    ...[...blobs].map(([digest, content]) => entry(`blobs/sha256/${digest}`, content, 0o644)),
    Buffer.alloc(2 * BLOCK_BYTES),
  ]);
}

function layerTar(files: readonly ImageFile[]): Buffer {
  return Buffer.concat([
    entry("tmp/", undefined, 0o1777),
    entry("etc/", undefined, 0o755),
    entry("etc/passwd", Buffer.from(PASSWD), 0o644),
    entry("etc/group", Buffer.from(GROUP), 0o644),
    ...files.map((file) => entry(file.path.replace(/^\/+/, ""), file.content, file.mode ?? 0o755)),
    Buffer.alloc(2 * BLOCK_BYTES),
  ]);
}

/** One entry of a POSIX tar (ustar), owned by root, with the time 0: the same files give the same bytes. No content: a directory. */
function entry(name: string, content: Uint8Array | undefined, mode: number): Buffer {
  if (Buffer.byteLength(name) >= 100) throw new RangeError(`the name ${name} is too long for a tar header`);
  const size = content?.length ?? 0;
  const header = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, width: number) =>
    header.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at);
  header.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  header.write("        ", 148);
  header.write(content === undefined ? DIRECTORY : REGULAR, 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const padding = Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
  return Buffer.concat([header, content ?? Buffer.alloc(0), padding]);
}
