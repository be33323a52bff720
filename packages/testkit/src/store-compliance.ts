import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CONFIG_MAP, type Store } from "@tulle/store";
import { describeEvents } from "./store-compliance/events.ts";
import { describeReads } from "./store-compliance/reads.ts";
import { describeWatch } from "./store-compliance/watch.ts";
import { describeWrites } from "./store-compliance/writes.ts";

/** A place of resources and the ways into it. */
export interface StoreFixture extends AsyncDisposable {
  /** A store of its own on the same resources, as another process would have. The suite disposes of it. */
  open(component: string): Promise<Store>;
}

/** Runs what every Store promises; `make` is called once. */
export function describeStore(name: string, make: () => Promise<StoreFixture>): void {
  describe(`${name}: what every store promises`, () => {
    let fixture: StoreFixture | undefined;
    before(async () => {
      fixture = await make();
    });
    after(async () => {
      await fixture?.[Symbol.asyncDispose]();
    });
    const open = (component = "tulle-test"): Promise<Store> => {
      assert.ok(fixture !== undefined, "the fixture did not start");
      return fixture.open(component);
    };
    describeReads(open);
    describeWrites(open);
    describeWatch(open);
    describeEvents(open);
    test("a closed store refuses, and says so", async () => {
      const store = await open();
      await store[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await assert.rejects(store.list(CONFIG_MAP), { code: "UNAVAILABLE", message: /closed/ });
      await assert.rejects(store.watch(CONFIG_MAP, { put() {}, gone() {} }).whenSynced(), { code: "UNAVAILABLE" });
    });
  });
}
