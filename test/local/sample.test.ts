import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { BOOKINFO } from "./local-mesh.ts";

/** One set of YAML for one machine and for a cluster. */

const { version } = JSON.parse(readFileSync(join(BOOKINFO, "../../package.json"), "utf8")) as { version: string };
const files = readdirSync(BOOKINFO)
  .filter((file) => file.endsWith(".yaml"))
  .sort();

interface Document {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: { readonly name?: string; readonly namespace?: string };
  readonly spec?: { readonly template?: { readonly spec: { readonly containers: readonly Container[] } } };
}

interface Container {
  readonly image: string;
  readonly imagePullPolicy: string;
  readonly args: readonly string[];
}

const documents = files.flatMap((file) =>
  parseAllDocuments(readFileSync(join(BOOKINFO, file), "utf8")).map((document) => document.toJS() as Document),
);
const containers = documents.flatMap(({ spec }) => spec?.template?.spec.containers ?? []);

test("kubectl apply -f takes every file, and finds the namespace before what is in it", () => {
  for (const { apiVersion, kind } of documents) assert.ok(apiVersion !== undefined && kind !== undefined);
  assert.equal(documents[0]?.kind, "Namespace");
  const others = documents.slice(1).map(({ metadata }) => metadata?.namespace);
  assert.deepEqual([...new Set(others)], [documents[0]?.metadata?.name]);
});

test("every container runs the sample's image of this version, which is never pulled when it is there", () => {
  assert.equal(containers.length, 6);
  for (const { image, imagePullPolicy } of containers) {
    assert.equal(image, `docker.io/tulle/sample-bookinfo:${version}`);
    assert.equal(imagePullPolicy, "IfNotPresent");
  }
});

test("the local mesh knows a command for it, and its arguments are programs of the sample", () => {
  const { images } = parse(readFileSync(join(BOOKINFO, "local/images.yaml"), "utf8")) as {
    images: Record<string, unknown>;
  };
  assert.deepEqual(Object.keys(images), [`docker.io/tulle/sample-bookinfo:${version}`]);
  const programs = readdirSync(join(BOOKINFO, "programs"));
  for (const { args } of containers) assert.ok(programs.includes(`${args[0]}.ts`), args.join(" "));
});
