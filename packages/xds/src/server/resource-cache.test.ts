import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ads } from "@tulle/api";
import { ResourceCache, withAliases } from "./resource-cache.ts";

const text = (value: string) => Uint8Array.from(Buffer.from(value));
const namesOf = (found: Iterable<{ name: string }>) => [...found].map(({ name }) => name);

test("only what really changed counts as changed", () => {
  const cache = new ResourceCache("t");
  const a = { name: "a", bytes: text("1") };
  assert.deepEqual([...cache.update({ changed: [a, { name: "b", bytes: text("1") }] }).keys()], ["a", "b"]);
  assert.deepEqual([...cache.update({ changed: [a] }).keys()], []);
  assert.deepEqual(
    [...cache.update({ changed: [{ name: "a", bytes: text("2") }], removed: ["b", "never"] }).keys()],
    ["a", "b"],
  );
  assert.equal(cache.size, 1);
  assert.equal(cache.sequence, 4);
});

test("equal content has equal versions, in this process and the next", () => {
  const versionOf = (bytes: Uint8Array) => {
    const cache = new ResourceCache("t");
    cache.update({ changed: [{ name: "a", bytes }] });
    return cache.get("a")?.version;
  };
  assert.equal(versionOf(text("1")), versionOf(text("1")));
  assert.notEqual(versionOf(text("1")), versionOf(text("2")));
  assert.equal(versionOf(text("1")), "6b86b273ff34fce1", "the start of the SHA-256 of the bytes");
});

test("a resource is found by name, alias and group, and no longer by those it has lost", () => {
  const cache = new ResourceCache("t");
  const put = (name: string, aliases: string[], groups: string[], content = name) =>
    cache.update({ changed: [{ name, bytes: text(content), aliases, groups }] });
  put("a", ["net/1"], ["svc"]);
  put("b", ["net/1", "net/2"], ["svc"]);
  assert.deepEqual(namesOf(cache.find("net/1")), ["a", "b"]);
  assert.deepEqual(namesOf(cache.find("svc")), ["a", "b"]);
  assert.deepEqual(namesOf(cache.find("b")), ["b"]);
  put("b", ["net/3"], []);
  assert.deepEqual(namesOf(cache.find("net/1")), ["a"]);
  assert.deepEqual(namesOf(cache.find("net/2")), []);
  assert.deepEqual(namesOf(cache.find("net/3")), ["b"]);
  cache.update({ removed: ["a"] });
  assert.deepEqual(namesOf(cache.find("svc")), []);
});

test("a resource is encoded as the protocol says, with its aliases where they are wanted", () => {
  const cache = new ResourceCache("type.test/t");
  cache.update({ changed: [{ name: "a", bytes: text("content"), aliases: ["net/1", "net/2"] }] });
  const cached = cache.get("a");
  assert.ok(cached);
  const plain = fromBinary(ads.ResourceSchema, cached.encoded);
  assert.equal(plain.name, "a");
  assert.equal(plain.version, cached.version);
  assert.equal(plain.resource?.typeUrl, "type.test/t");
  assert.equal(Buffer.from(plain.resource?.value ?? []).toString(), "content");
  assert.deepEqual(plain.aliases, []);
  assert.deepEqual(fromBinary(ads.ResourceSchema, withAliases(cached)).aliases, ["net/1", "net/2"]);
});
