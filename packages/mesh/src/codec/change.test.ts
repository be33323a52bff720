import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MeshError } from "@tulle/base";
import * as fc from "fast-check";
import { change } from "../../test/arbitraries.ts";
import { newMatch, newPolicy, newWorkload } from "../defaults.ts";
import { ChangeCodec, decodeChange, encodeChange } from "./change.ts";
import { MAX_CHANGE_BYTES, WireReader, WireWriter, SharedStrings } from "./wire.ts";

const isMalformed = (error: unknown) => error instanceof MeshError && error.code === "MALFORMED_CHANGE";

describe("changes as bytes", () => {
  it("come back as they were", () => {
    const codec = new ChangeCodec();
    fc.assert(
      fc.property(change, (value) => {
        assert.deepEqual(codec.decode(codec.encode(value)), value);
      }),
      { numRuns: 500 },
    );
  });

  it("never decode when they end early or go on", () => {
    fc.assert(
      fc.property(change, fc.nat(), (value, cut) => {
        const bytes = encodeChange(value);
        assert.throws(() => decodeChange(bytes.subarray(0, cut % bytes.length)), isMalformed);
        assert.throws(() => decodeChange(new Uint8Array([...bytes, 0])), isMalformed);
      }),
    );
  });

  it("decode to something well-formed or are rejected, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), change, fc.nat(), fc.nat(255), (noise, value, at, byte) => {
        const flipped = encodeChange(value);
        flipped[at % flipped.length] = byte;
        for (const bytes of [noise, flipped]) {
          try {
            const decoded = decodeChange(bytes);
            assert.deepEqual(decodeChange(encodeChange(decoded)), decoded);
          } catch (error) {
            assert.ok(isMalformed(error), String(error));
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("are no bytes that are not UTF-8, but may hold the character that stands for them", () => {
    const bytes = encodeChange({ kind: "remove-workload", uid: "a\ufffdb" });
    assert.deepEqual(decodeChange(bytes), { kind: "remove-workload", uid: "a\ufffdb" });
    const plain = encodeChange({ kind: "remove-workload", uid: "abc" });
    plain[3] = 0xff;
    assert.throws(() => decodeChange(plain), isMalformed);
  });

  it("make nothing of a count that the bytes cannot hold", () => {
    // A workload whose list of addresses claims four billion items.
    const bytes = encodeChange({ kind: "workload", workload: newWorkload({ uid: "", name: "", namespace: "" }) });
    const claim = [...bytes.subarray(0, 1), 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert.throws(() => decodeChange(Uint8Array.from(claim)), isMalformed);
  });

  it("are refused when the model holds what cannot be written", () => {
    const cases = [
      newWorkload({ uid: "u", name: "n", namespace: "a", addresses: ["10.0.0.256"] }),
      newWorkload({ uid: "u", name: "n", namespace: "a", capacity: -1 }),
      newWorkload({ uid: "u", name: "n", namespace: "a", capacity: 2 ** 32 }),
      newWorkload({ uid: "\ud800", name: "n", namespace: "a" }),
    ];
    for (const workload of cases) assert.throws(() => encodeChange({ kind: "workload", workload }), isMalformed);
  });

  it("are bounded in size, and the codec goes on afterwards", () => {
    const codec = new ChangeCodec();
    const match = newMatch({ principals: [{ kind: "exact", value: "x".repeat(MAX_CHANGE_BYTES) }] });
    const huge = newPolicy({
      name: "p",
      namespace: "a",
      action: "Deny",
      rules: [[[match]]],
    });
    assert.throws(
      () => codec.encode({ kind: "policy", policy: huge }),
      (error) => error instanceof MeshError && error.code === "CHANGE_TOO_LARGE",
    );
    assert.deepEqual(codec.decode(codec.encode({ kind: "synced" })), { kind: "synced" });
  });

  it("share the strings that resources have in common", () => {
    const shared = new SharedStrings();
    const out = new WireWriter();
    out.text("namespace");
    const bytes = out.take();
    assert.equal(new WireReader(bytes, shared).sharedText(), shared.get("namespace"));
  });

  it("know one spelling of a number only", () => {
    assert.equal(readNumber([0xff, 0xff, 0xff, 0xff, 0x0f]), 0xffffffff);
    for (const bytes of [[0x80, 0x00], [0xff, 0xff, 0xff, 0xff, 0x1f], [0x80, 0x80, 0x80, 0x80, 0x80, 0x01], [0x80]]) {
      assert.throws(() => readNumber(bytes), isMalformed);
    }
  });
});

function readNumber(bytes: readonly number[]): number {
  return new WireReader(Uint8Array.from(bytes), new SharedStrings()).number();
}
