import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openPluginFiles } from "../../apps/node-agent/src/installer/plugin-files.ts";
import { whereIs } from "../../images/debian-files.ts";
import { IMAGES, type ImageDefinition } from "../../images/definitions.ts";
import { archiveOf, layerOf } from "../../images/oci.ts";
import { makeImage, programsIn, unpack } from "./rootfs.ts";

const folder = mkdtempSync(join(tmpdir(), "tulle-images-"));
const rootfs = join(folder, "image");
/** Has some of everything: packages of ours and from npm, data threads, tools, the CNI plugin. */
const image = makeImage({ ...(IMAGES.find(({ name }) => name === "ztunnel") as ImageDefinition), plugin: true });
const CHROOT = whereIs("chroot");
/** Node in a cold folder on a busy machine. */
const PATIENCE = { timeout: 30_000, encoding: "utf8" } as const;

const controlPlane = makeImage(IMAGES.find(({ name }) => name === "control-plane") as ImageDefinition);
const nodeAgent = makeImage(IMAGES.find(({ name }) => name === "node-agent") as ImageDefinition);
/** Their code beside ztunnel's, on the same base. */
const others = [controlPlane, nodeAgent].map((made) => ({ ...made, layers: made.layers.slice(1) }));

before(() => {
  for (const one of [image, ...others]) unpack(one, rootfs);
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a program with nothing but the image's files, as somebody who may not write there. */
function inside(...command: string[]) {
  return spawnSync(CHROOT, ["--userspec=1337:1337", rootfs, ...command], { ...PATIENCE, env: { PATH: "/usr/bin" } });
}

test("everything an app imports is there, with its types erased", () => {
  const sources = (readdirSync(join(rootfs, "app"), { recursive: true }) as string[]).filter((path) =>
    /\.(test|d)\.|\.ts$/.test(path),
  );
  assert.deepEqual(sources, []);
  const apps = ["ztunnel", "control-plane", "node-agent"].map((name) => `apps/${name}/src/wire.js`);
  const modules = [...apps, "apps/ztunnel/src/data/thread.js"];
  const { stderr, status } = inside("/usr/bin/node", "-e", modules.map((path) => `import("/app/${path}");`).join(""));
  assert.equal(status, 0, stderr);
});

test("a stack trace names the line of the source", () => {
  const source = readFileSync(join(rootfs, "app/node_modules/@tulle/base/src/ip.js"), "utf8");
  const original = readFileSync(new URL("../../packages/base/src/ip.ts", import.meta.url), "utf8");
  assert.equal(source.split("\n").length, original.split("\n").length);
  assert.equal(source.indexOf("function "), original.indexOf("function "));
});

test("Node's OpenSSL and node:ffi work without the build machine's symbols", () => {
  const program = 'require("node:ffi"); console.log(process.version, process.getuid())';
  assert.equal(
    inside("/usr/bin/node", "--disable-warning=ExperimentalWarning", "-e", program).stdout,
    `${process.version} 1337\n`,
  );
});

for (const [program, argument] of [
  ["/usr/bin/curl", "--version"],
  ["/usr/sbin/nft", "--version"],
]) {
  test(`${program} is there with its libraries`, () => {
    const { status, stderr } = inside(program ?? "", argument ?? "");
    assert.equal(status, 0, stderr);
  });
}

test("the control plane's image has no program but Node: no shell, no tools", () => {
  const place = join(folder, "control-plane");
  unpack(controlPlane, place);
  assert.deepEqual(programsIn(place, controlPlane), ["node"]);

  // The same eyes see those that a layer would bring, wherever it puts them.
  const links = ["usr/bin/sh", "usr/sbin/nft", "usr/local/bin/busybox"];
  const entries = links.map((path) => ({ kind: "symlink", path, target: "/usr/bin/node" }) as const);
  unpack({ ...controlPlane, layers: [layerOf(entries, "zstd", "programs that are not wanted")] }, place);
  assert.deepEqual(programsIn(place, controlPlane), ["busybox", "nft", "node", "sh"]);
});

test("no image asks for a program that its app does not run", () => {
  assert.deepEqual(
    IMAGES.flatMap(({ name, programs = {} }) => Object.keys(programs).map((program) => `${name}: ${program}`)),
    ["ztunnel: curl", "node-agent: nft"],
  );
});

test("the same sources give the same image", () => {
  const again = makeImage({ ...(IMAGES.find(({ name }) => name === "ztunnel") as ImageDefinition), plugin: true });
  assert.deepEqual(archiveOf([again]).digests, archiveOf([image]).digests);
});

test("images share their base layer, and an archive holds it once", () => {
  const sample = makeImage(IMAGES.find(({ name }) => name === "sample-bookinfo") as ImageDefinition);
  assert.equal(sample.layers[0]?.digest, image.layers[0]?.digest);
  const { archive } = archiveOf([image, sample]);
  const layers = [...image.layers, ...sample.layers.slice(1)].reduce((sum, { blob }) => sum + blob.length, 0);
  assert.ok(archive.length < layers + 100_000);
});

test("a sample that is not there is named, with those that are", () => {
  const sample = makeImage(IMAGES.find(({ name }) => name === "sample-bookinfo") as ImageDefinition);
  const place = join(folder, "sample");
  unpack(sample, place);
  const [node = "", main = ""] = sample.config.entrypoint;
  const { status, stderr } = spawnSync(CHROOT, [place, node, main, "shop"], PATIENCE);
  assert.equal(status, 2);
  assert.match(stderr, /"shop" is no service.*details, productpage, ratings, reviews/);
});

test("the installed plugin runs on a host that has nothing but a kernel", async () => {
  const host = join(folder, "host");
  const pluginFolder = join(folder, "plugin");
  mkdirSync(join(host, "opt/cni/bin"), { recursive: true });
  mkdirSync(pluginFolder);
  // As the installer sees it in the container, seen from here.
  const runtime = JSON.parse(readFileSync(join(rootfs, "app/cni/runtime.json"), "utf8")) as Record<
    string,
    string | string[]
  >;
  const seen = Object.entries(runtime).map(([key, value]) => {
    if (key === "id") return [key, value];
    return [key, Array.isArray(value) ? value.map((path) => join(rootfs, path)) : join(rootfs, value)];
  });
  writeFileSync(join(pluginFolder, "runtime.json"), JSON.stringify(Object.fromEntries(seen)));
  writeFileSync(join(pluginFolder, "istio-cni.js"), readFileSync(join(rootfs, "app/cni/istio-cni.js")));
  const config = { binDir: join(host, "opt/cni/bin"), hostBinDir: "/opt/cni/bin", pluginFolder };
  const plugin = openPluginFiles(config);

  assert.equal(await plugin.install(), true);
  assert.equal(await plugin.install(), false, "nothing to do the second time");
  const run = (input: string, environment: Readonly<Record<string, string>>) =>
    spawnSync(CHROOT, [host, "/opt/cni/bin/istio-cni"], { ...PATIENCE, input, env: environment });
  const version = run('{"cniVersion":"1.0.0"}', { CNI_COMMAND: "VERSION" });
  assert.match(version.stdout, /"supportedVersions":\["0.3.1"/, version.stderr);
  const add = run('{"cniVersion":"1.0.0"}', {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: "c",
    CNI_NETNS: "/n",
    CNI_ARGS: "K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop",
  });
  assert.match(add.stdout, /no node agent answers at \/var\/run\/istio-cni\/pluginevent.sock/, add.stderr);
  assert.equal(add.status, 1);

  const own = join(host, "opt/cni/bin/.istio-cni", String(runtime.id));
  rmSync(join(own, "lib/libc.so.6"));
  assert.equal(await plugin.install(), true, "a library that is gone comes back");
  writeFileSync(join(own, "loader"), Buffer.alloc(statSync(join(own, "loader")).size));
  assert.equal(await plugin.install(), true, "so does a file whose content changed");
  writeFileSync(join(own, "loader"), Buffer.alloc(statSync(join(own, "loader")).size));
  assert.equal(await openPluginFiles(config).install(), true, "even when nobody watched");
  assert.match(run('{"cniVersion":"1.0.0"}', { CNI_COMMAND: "VERSION" }).stdout, /supportedVersions/);

  mkdirSync(join(host, "opt/cni/bin/.istio-cni/former"));
  await plugin.removeFormer();
  assert.deepEqual(readdirSync(join(host, "opt/cni/bin/.istio-cni")), [String(runtime.id)]);
  await plugin.remove();
  assert.deepEqual(readdirSync(join(host, "opt/cni/bin")), []);
});

test("a host path that a script's first line cannot hold is refused", async () => {
  for (const hostBinDir of ["/opt/with blank", `/opt/${"x".repeat(130)}`]) {
    const plugin = openPluginFiles({ binDir: join(folder, "bin"), hostBinDir, pluginFolder: join(rootfs, "app/cni") });
    await assert.rejects(plugin.install(), /too long or holds blanks/);
  }
});

test("what a runtime does with the archive: the layers' digests are those of their content", () => {
  const tar = join(folder, "image.tar");
  writeFileSync(tar, archiveOf([image]).archive);
  const list = execFileSync("tar", ["--list", "--file", tar], { encoding: "utf8" });
  for (const { digest } of image.layers) assert.ok(list.includes(`blobs/${digest.replace(":", "/")}`));
  assert.ok(list.includes("index.json") && list.includes("oci-layout"));
});
