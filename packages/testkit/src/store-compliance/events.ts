import assert from "node:assert/strict";
import { test } from "node:test";
import { EVENT } from "@tulle/store";
import { freshNamespace, makeConfigMap, type OpenStore, until } from "./helpers.ts";

export function describeEvents(open: OpenStore): void {
  test("repeated events are one Event with a count, and another message is another", async () => {
    await using store = await open("tulle-events");
    const namespace = await freshNamespace(store);
    const about = await makeConfigMap(store, namespace, "a", {});
    const say = (message: string) => store.event(about, { type: "Warning", reason: "Tested", message });
    for (const message of ["one", "one", "two", "one"]) say(message);
    const listed = () => store.list(EVENT, { namespace });
    await until("both events, counted", async () => {
      const counts = (await listed()).map(({ message, count }) => `${message} ${count}`);
      return counts.includes("one 3") && counts.includes("two 1");
    });
    const event = (await listed()).find(({ message }) => message === "one");
    assert.equal((await listed()).length, 2);
    assert.deepEqual([event?.type, event?.reason, event?.source?.component], ["Warning", "Tested", "tulle-events"]);
    const { uid } = about.metadata;
    const { involvedObject } = event ?? {};
    assert.deepEqual(
      [involvedObject?.kind, involvedObject?.namespace, involvedObject?.name, involvedObject?.uid],
      ["ConfigMap", namespace, "a", uid],
    );
    assert.ok((event?.firstTimestamp ?? "") <= (event?.lastTimestamp ?? ""));
  });

  test("a flood of events about one object is cut, and closing writes what was taken", async () => {
    const store = await open("tulle-events");
    const namespace = await freshNamespace(store);
    const about = await makeConfigMap(store, namespace, "a", {});
    for (let index = 0; index < 100; index++) {
      store.event(about, { type: "Normal", reason: "Tested", message: `message ${index}` });
    }
    await store[Symbol.asyncDispose]();
    store.event(about, { type: "Normal", reason: "Tested", message: "after closing" });
    await using reader = await open();
    assert.equal((await reader.list(EVENT, { namespace })).length, 25);
  });
}
