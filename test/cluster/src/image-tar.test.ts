import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { imageTar } from "./image-tar.ts";

const OPTIONS = {
  reference: "lab.local/x:7",
  entrypoint: ["/bin/program", "run"],
  architecture: "amd64",
  files: [
    { path: "/bin/program", content: Buffer.from("program") },
    { path: "/etc/data", content: Buffer.alloc(512, 1), mode: 0o640 },
  ],
};

function list(tar: Buffer): string[] {
  const { stdout, status, stderr } = spawnSync("tar", ["-tvf", "-"], { input: tar, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout.trim().split("\n");
}

function extract(tar: Buffer, name: string): Buffer {
  const { stdout, status } = spawnSync("tar", ["-xOf", "-", name], { input: tar });
  assert.equal(status, 0);
  return stdout;
}

test("an image is an OCI layout whose digests are those of its blobs", () => {
  const image = imageTar(OPTIONS);
  const index = JSON.parse(extract(image, "index.json").toString());
  const [descriptor] = index.manifests;
  assert.equal(descriptor.annotations["io.containerd.image.name"], "lab.local/x:7");
  const blob = ({ digest, size }: { digest: string; size: number }) => {
    const bytes = extract(image, digest.replace("sha256:", "blobs/sha256/"));
    assert.equal(createHash("sha256").update(bytes).digest("hex"), digest.replace("sha256:", ""));
    assert.equal(bytes.length, size);
    return bytes;
  };
  const manifest = JSON.parse(blob(descriptor).toString());
  const config = JSON.parse(blob(manifest.config).toString());
  assert.deepEqual(config.config.Entrypoint, OPTIONS.entrypoint);
  assert.deepEqual(config.rootfs.diff_ids, [manifest.layers[0].digest]);
  const layer = blob(manifest.layers[0]);
  const lines = list(layer).map((line) => line.split(/\s+/));
  const entry = (name: string) => lines.find((fields) => fields.at(-1) === name);
  assert.equal(entry("bin/program")?.[0], "-rwxr-xr-x");
  assert.equal(entry("etc/data")?.[0], "-rw-r-----");
  assert.equal(entry("tmp/")?.[0], "drwxrwxrwt");
  assert.equal(extract(layer, "bin/program").toString(), "program");
  assert.equal(extract(layer, "etc/data").length, 512);
});

test("the same files give the same bytes", () => {
  assert.deepEqual(imageTar(OPTIONS), imageTar(OPTIONS));
});

test("a name that the header cannot hold is refused", () => {
  const files = [{ path: `/${"x".repeat(100)}`, content: Buffer.alloc(0) }];
  assert.throws(() => imageTar({ ...OPTIONS, files }), RangeError);
});
