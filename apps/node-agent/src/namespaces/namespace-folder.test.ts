import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Lab, type LabHost, run } from "@tulle/lab";
import { openDescriptorCount } from "@tulle/linux";
import { NamespaceFolder, NamespaceRefused } from "./namespace-folder.ts";

describe("the runtime's folder of namespaces", () => {
  let lab: Lab;
  let pod: LabHost;
  let other: LabHost;
  let host: LabHost;
  let root: string;
  let folder: string;
  let namespaces: NamespaceFolder;

  before(async () => {
    lab = await Lab.create();
    pod = await lab.host("pod");
    other = await lab.host("other");
    host = await lab.host("host");
    root = mkdtempSync(join(tmpdir(), "tulle-netns-"));
    folder = join(root, "netns");
    mkdirSync(folder);
    // A folder of our own, so that only what the test puts there is found.
    for (const [name, from] of [
      ["cni-pod", pod],
      ["cni-other", other],
      ["cni-host", host],
    ] as const) {
      writeFileSync(join(folder, name), "");
      await run("mount", ["--bind", from.namespace.path, join(folder, name)]);
    }
    writeFileSync(join(folder, "cni-file"), "no namespace");
    symlinkSync(pod.namespace.path, join(folder, "cni-link"));
    await run("mkfifo", [join(folder, "cni-pipe")]);
    writeFileSync(join(folder, "cni-mnt"), "");
    await run("mount", ["--bind", "/proc/self/ns/uts", join(folder, "cni-mnt")]);
    symlinkSync(pod.namespace.path, join(root, "outside"));
    namespaces = new NamespaceFolder({
      folder,
      aliases: [folder, "/runtime/netns"],
      hostNamespace: host.namespace.path,
    });
  });
  after(async () => {
    for (const name of ["cni-pod", "cni-other", "cni-host", "cni-mnt"]) {
      await run("umount", [join(folder, name)]).catch(() => {});
    }
    rmSync(root, { recursive: true, force: true });
    await lab.close();
  });

  test("a namespace that lies there and holds the pod's address is opened, under either name of the folder", () => {
    for (const path of [join(folder, "cni-pod"), "/runtime/netns/cni-pod"]) {
      using opened = namespaces.openHandedIn(path, [pod.v4]).namespace;
      assert.ok(!opened.closed);
    }
  });

  const attacks: readonly (readonly [what: string, path: () => string, message: RegExp])[] = [
    ["another folder", () => pod.namespace.path, /is no file in/],
    ["a way out of the folder", () => `${folder}/../outside`, /is no file in/],
    ["a way out and back", () => `${folder}/../netns/cni-pod`, /is no file in/],
    ["a folder inside", () => `${folder}/x/cni-pod`, /is no file in/],
    ["the folder itself", () => `${folder}/.`, /is no file in/],
    ["a name relative to us", () => "cni-pod", /is no file in/],
    ["no name", () => "", /is no file in/],
    ["a process' namespace", () => "/proc/1/ns/net", /is no file in/],
    ["a name with a zero byte", () => `${folder}/cni-pod\0`, /is no file in/],
    ["a file that does not exist", () => `${folder}/cni-gone`, /does not exist/],
    ["an ordinary file", () => `${folder}/cni-file`, /is no network namespace/],
    ["a link to a namespace", () => `${folder}/cni-link`, /is no network namespace/],
    ["a pipe", () => `${folder}/cni-pipe`, /is no network namespace/],
    ["a namespace of another kind", () => `${folder}/cni-mnt`, /is no network namespace/],
    ["the host's namespace", () => `${folder}/cni-host`, /is the host's network namespace/],
    ["another pod's namespace", () => `${folder}/cni-other`, /does not hold/],
  ];
  for (const [what, path, message] of attacks) {
    test(`refused: ${what}`, () => {
      const open = openDescriptorCount();
      assert.throws(
        () => namespaces.openHandedIn(path(), [what === "the host's namespace" ? host.v4 : pod.v4]),
        (error) => error instanceof NamespaceRefused && message.test(error.message),
      );
      assert.equal(openDescriptorCount(), open, "nothing stays open");
    });
  }

  test("refused: this process' own namespace, no addresses, and an address too many", async () => {
    writeFileSync(join(folder, "cni-own"), "");
    await run("mount", ["--bind", "/proc/self/ns/net", join(folder, "cni-own")]);
    try {
      assert.throws(() => namespaces.openHandedIn(`${folder}/cni-own`, ["127.0.0.1"]), NamespaceRefused);
    } finally {
      await run("umount", [join(folder, "cni-own")]);
    }
    assert.throws(() => namespaces.openHandedIn(`${folder}/cni-pod`, []), /any address/);
    assert.throws(() => namespaces.openHandedIn(`${folder}/cni-pod`, [pod.v4, other.v4]), NamespaceRefused);
  });

  test("a pod is found by its addresses, never as the host, and not when two namespaces hold them", async () => {
    using found = namespaces.find([pod.v4])?.namespace;
    assert.ok(found);
    assert.equal(namespaces.find(["203.0.113.9"]), undefined);
    assert.equal(namespaces.find([host.v4]), undefined);
    assert.equal(namespaces.find([]), undefined);
    await other.namespace.ip([`addr add ${pod.v4}/32 dev lo`]);
    await new Promise((resolve) => setTimeout(resolve, 250));
    assert.throws(() => namespaces.find([pod.v4]), /several network namespaces hold/);
    await other.namespace.ip([`addr del ${pod.v4}/32 dev lo`]);
  });

  test("it is noticed when the file becomes another namespace, or the address goes", async () => {
    const open = namespaces.openHandedIn(join(folder, "cni-pod"), [pod.v4]);
    assert.equal(namespaces.whyNot(open, [pod.v4]), undefined);
    assert.match(namespaces.whyNot(open, [other.v4]) ?? "", /does not hold/);
    assert.match(
      namespaces.whyNot({ ...open, file: join(folder, "cni-other") }, [other.v4]) ?? "",
      /another namespace/,
    );
    assert.equal(basename(open.file), "cni-pod");
    open.namespace.close();
  });
});
