import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { KubeObject } from "@tulle/store";
import { readDocuments } from "@tulle/store/directory";
import { BOOKINFO } from "./local-mesh.ts";

/** One set of YAML for one machine and for a cluster. */

const { version } = JSON.parse(readFileSync(join(BOOKINFO, "../../package.json"), "utf8")) as { version: string };
const files = readdirSync(BOOKINFO)
  .filter((file) => file.endsWith(".yaml"))
  .sort();

interface PodTemplate {
  readonly template?: { readonly spec: { readonly containers: readonly Container[] } };
}

interface Container {
  readonly image: string;
  readonly imagePullPolicy: string;
  readonly args: readonly string[];
}

const contents = files.map((file) => readDocuments(file, readFileSync(join(BOOKINFO, file), "utf8")));
const objects: KubeObject[] = contents.flatMap((content) => content.objects.map(({ object }) => object));
const containers = objects.flatMap(({ spec }) => (spec as PodTemplate | undefined)?.template?.spec.containers ?? []);

test("kubectl apply -f takes every file, and finds the namespace before what is in it", () => {
  assert.deepEqual(
    contents.flatMap(({ problems }) => problems),
    [],
  );
  assert.equal(objects[0]?.kind, "Namespace");
  const homes = new Set(objects.slice(1).map(({ metadata }) => metadata.namespace));
  assert.deepEqual([...homes], [objects[0]?.metadata.name]);
});

test("every container runs the sample's image of this version, which is never pulled when it is there", () => {
  assert.equal(containers.length, 6);
  for (const { image, imagePullPolicy } of containers) {
    assert.equal(image, `docker.io/tulle/sample-bookinfo:${version}`);
    assert.equal(imagePullPolicy, "IfNotPresent");
  }
});

test("the local mesh knows a command for it, and its arguments are programs of the sample", () => {
  const text = readFileSync(join(BOOKINFO, "local/images.yaml"), "utf8");
  assert.ok(text.includes(`  docker.io/tulle/sample-bookinfo:${version}: [node, programs/main.ts]\n`), text);
  const programs = readdirSync(join(BOOKINFO, "programs"));
  for (const { args } of containers) assert.ok(programs.includes(`${args[0]}.ts`), args.join(" "));
});
