import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ads } from "@tulle/api";
import { ResourceCache } from "./resource-cache.ts";
import { ServerSubscription } from "./subscription.ts";

const WILDCARD = { alwaysWildcard: false, impliedKeys: [] };

interface Asked {
  readonly subscribe?: string[];
  readonly unsubscribe?: string[];
  readonly held?: Record<string, string>;
}

function asked({ subscribe = [], unsubscribe = [], held = {} }: Asked) {
  return { resourceNamesSubscribe: subscribe, resourceNamesUnsubscribe: unsubscribe, initialResourceVersions: held };
}

/** A cache with three workloads of two services, as an Address cache has them. */
function setUp() {
  const cache = new ResourceCache("t");
  const put = (name: string, content: string, aliases: string[] = [], groups: string[] = []) =>
    cache.update({ changed: [{ name, bytes: Uint8Array.from(Buffer.from(content)), aliases, groups }] });
  put("w1", "1", ["n/10.0.0.1"], ["ns/svc", "node:n1"]);
  put("w2", "1", ["n/10.0.0.2"], ["ns/svc", "node:n2"]);
  put("w3", "1", ["n/10.0.0.3"], ["node:n1"]);
  put("ns/svc", "1", ["n/10.96.0.1"]);
  const versionOf = (name: string) => cache.get(name)?.version ?? "";
  return { cache, put, versionOf };
}

/** The names that are sent, sorted, and those that are gone. */
function taken(subscription: ServerSubscription): string {
  const { resources, removed } = subscription.take();
  const names = resources.map((bytes) => fromBinary(ads.ResourceSchema, bytes).name).sort();
  return `${names.join(" ")} | ${removed.sort().join(" ")}`;
}

test("who asks for nothing in particular gets everything, and then what changes", () => {
  const { cache, put } = setUp();
  const one = new ServerSubscription(cache, WILDCARD, asked({}));
  assert.equal(one.answerDue, true);
  assert.equal(taken(one), "ns/svc w1 w2 w3 | ");
  assert.equal(one.answerDue, false);
  one.changed(put("w1", "2"));
  one.changed(cache.update({ removed: ["w2"] }));
  assert.equal(one.hasChanges, true);
  assert.equal(taken(one), "w1 | w2");
  assert.equal(one.hasChanges, false);
});

test("who comes back gets only the difference", () => {
  const { cache, versionOf } = setUp();
  const held = { w1: versionOf("w1"), w2: "old", gone: "x", "ns/svc": versionOf("ns/svc") };
  assert.equal(taken(new ServerSubscription(cache, WILDCARD, asked({ held }))), "w2 w3 | gone");
  const all = Object.fromEntries(["w1", "w2", "w3", "ns/svc"].map((name) => [name, versionOf(name)]));
  const same = new ServerSubscription(cache, WILDCARD, asked({ held: all }));
  assert.equal(same.answerDue, true, "it is answered, if with nothing");
  assert.equal(taken(same), " | ");
});

test("an empty version never counts as held", () => {
  const { cache } = setUp();
  assert.equal(taken(new ServerSubscription(cache, WILDCARD, asked({ held: { w1: "" } }))), "ns/svc w1 w2 w3 | ");
});

test("a change that is already in the first answer is not sent again when it is told", () => {
  const { cache, put } = setUp();
  const change = put("w1", "2");
  const one = new ServerSubscription(cache, WILDCARD, asked({}));
  taken(one);
  one.changed(change);
  assert.equal(one.hasChanges, false);
});

test("what changes several times before it is sent is sent once, as it is then", () => {
  const { cache, put } = setUp();
  const one = new ServerSubscription(cache, WILDCARD, asked({}));
  taken(one);
  for (const content of ["2", "3", "4"]) one.changed(put("w1", content));
  one.changed(cache.update({ removed: ["w2"] }));
  one.changed(put("w2", "back"));
  const { resources, removed } = one.take();
  assert.deepEqual(removed, []);
  const contents = resources.map((bytes) =>
    Buffer.from(fromBinary(ads.ResourceSchema, bytes).resource?.value ?? []).toString(),
  );
  assert.deepEqual(contents.sort(), ["4", "back"]);
});

test("an on-demand client starts with nothing, and gets what it asks for by name, alias or service", () => {
  const cases: [string, string][] = [
    ["w1", "w1 | "],
    ["n/10.0.0.2", "w2 | "],
    ["n/10.96.0.1", "ns/svc | "],
    ["ns/svc", "ns/svc w1 w2 | "],
    ["n/10.9.9.9", " | n/10.9.9.9"],
  ];
  for (const [key, expected] of cases) {
    const { cache } = setUp();
    const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["*"], unsubscribe: ["*"] }));
    assert.equal(taken(one), " | ");
    one.request(asked({ subscribe: [key] }));
    assert.equal(one.answerDue, true);
    assert.equal(taken(one), expected, key);
  }
});

test("an on-demand answer carries the aliases, a wildcard one does not", () => {
  const { cache } = setUp();
  const aliasesOf = (first: Asked) =>
    new ServerSubscription(cache, WILDCARD, asked(first))
      .take()
      .resources.map((bytes) => fromBinary(ads.ResourceSchema, bytes).aliases);
  assert.deepEqual(aliasesOf({ subscribe: ["w1"] }), [["n/10.0.0.1"]]);
  assert.deepEqual(aliasesOf({}).flat(), []);
});

test("keys that are internal cannot be asked for: not at first, not by what is held, not later", () => {
  const { cache, put } = setUp();
  const options = {
    alwaysWildcard: false,
    impliedKeys: [] as string[],
    isInternal: (key: string) => key.startsWith("node:"),
  };
  const one = new ServerSubscription(cache, options, asked({ subscribe: ["w2", "node:n1"], held: { "node:n2": "x" } }));
  assert.equal(taken(one), "w2 | ");
  one.request(asked({ subscribe: ["node:n1"] }));
  assert.equal(one.answerDue, true);
  assert.equal(taken(one), " | ");
  one.changed(put("w1", "2", ["n/10.0.0.1"], ["node:n1"]));
  assert.equal(one.hasChanges, false);
  const only = new ServerSubscription(cache, options, asked({ subscribe: ["node:n1"] }));
  assert.equal(only.wildcard, false, "who asks for nothing else does not get everything");
  assert.equal(taken(only), " | ");
  const own = new ServerSubscription(cache, { ...options, impliedKeys: ["node:n1"] }, asked({ subscribe: ["w2"] }));
  own.request(asked({ unsubscribe: ["node:n1"] }));
  assert.equal(taken(own), "w1 w2 w3 | ", "nor can they be left");
});

test("an on-demand client gets the workloads of its own node unasked, now and later", () => {
  const { cache, put } = setUp();
  const options = { alwaysWildcard: false, impliedKeys: ["node:n1"] };
  const one = new ServerSubscription(cache, options, asked({ subscribe: ["*"], unsubscribe: ["*"] }));
  assert.equal(taken(one), "w1 w3 | ");
  one.changed(put("w4", "1", [], ["node:n1"]));
  one.changed(put("w5", "1", [], ["node:n2"]));
  assert.equal(taken(one), "w4 | ");
});

test("an on-demand client hears of what it was sent, of new endpoints of its services, and of nothing else", () => {
  const { cache, put } = setUp();
  const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["ns/svc"] }));
  assert.equal(taken(one), "ns/svc w1 w2 | ");
  one.changed(put("w3", "2", ["n/10.0.0.3"], ["node:n1"]));
  assert.equal(one.hasChanges, false);
  one.changed(put("w9", "1", [], ["ns/svc"]));
  one.changed(put("w1", "2", ["n/10.0.0.1"], []));
  one.changed(cache.update({ removed: ["w2", "w3"] }));
  assert.equal(taken(one), "w1 w9 | w2");
});

test("a name that appears after it was asked for in vain is sent", () => {
  const { cache, put } = setUp();
  const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["n/10.0.0.7"] }));
  assert.equal(taken(one), " | n/10.0.0.7");
  one.changed(put("w7", "1", ["n/10.0.0.7"]));
  assert.equal(taken(one), "w7 | ");
});

test("a key that is an alias of what is sent anyway does not count as missing", () => {
  const { cache, put } = setUp();
  put("ns/range", "1", ["n/10.1.0.0/16"]);
  const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["ns/range", "n/10.1.0.0/16", "nothing"] }));
  assert.equal(taken(one), "ns/range | nothing");
});

test("an on-demand client that comes back gets what changed, and hears of what is gone", () => {
  const { cache, versionOf } = setUp();
  const held = { w1: versionOf("w1"), w2: "old", gone: "x", "n/10.0.0.3": "" };
  const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["*"], unsubscribe: ["*"], held }));
  assert.equal(taken(one), "w2 w3 | gone");
  one.changed(cache.update({ removed: ["w1"] }));
  assert.equal(taken(one), " | w1", "what it held is subscribed to");
});

test("asking again sends again, and what is no longer wanted is no longer sent", () => {
  const { cache, put } = setUp();
  const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["w1", "w2"] }));
  assert.equal(taken(one), "w1 w2 | ");
  one.request(asked({ subscribe: ["w1"], unsubscribe: ["w2"] }));
  assert.equal(taken(one), "w1 | ");
  one.changed(put("w2", "2"));
  assert.equal(one.hasChanges, false);
});

test("a client may turn to everything, and away from it", () => {
  const { cache, put } = setUp();
  const one = new ServerSubscription(cache, WILDCARD, asked({ subscribe: ["w1"] }));
  taken(one);
  one.request(asked({ subscribe: ["*"] }));
  assert.equal(taken(one), "ns/svc w1 w2 w3 | ");
  one.request(asked({ unsubscribe: ["*"] }));
  assert.equal(one.answerDue, true);
  taken(one);
  one.changed(put("w3", "2"));
  assert.equal(one.hasChanges, false);
});

test("policies go to everybody, whatever is asked for", () => {
  const { cache } = setUp();
  const options = { alwaysWildcard: true, impliedKeys: [] };
  for (const first of [{}, { subscribe: ["w1"] }, { subscribe: ["*"], unsubscribe: ["*"] }]) {
    const one = new ServerSubscription(cache, options, asked(first));
    assert.equal(taken(one), "ns/svc w1 w2 w3 | ");
    one.request(asked({ unsubscribe: ["*", "w1"] }));
    one.changed(cache.update({ changed: [{ name: "w1", bytes: Buffer.from(JSON.stringify(first)) }] }));
    assert.equal(taken(one), "w1 | ");
  }
});

test("the number of names is bounded", () => {
  const { cache } = setUp();
  const many = Array.from({ length: 1_000_001 }, (_, i) => `${i}`);
  assert.throws(
    () => new ServerSubscription(cache, WILDCARD, asked({ subscribe: many })),
    /more than 1000000 resource names/,
  );
});
