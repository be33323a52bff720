import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ReconnectPolicy } from "./reconnect.ts";

const refused = new ConnectError("connect ECONNREFUSED", Code.Unavailable);

test("each way for a stream to end has its wait and its reason", () => {
  const cases: [string, { error: unknown; connected: boolean; answered: boolean }, number, string][] = [
    ["ended in order", { error: undefined, connected: true, answered: true }, 0, "Complete"],
    ["ended in order, of no use", { error: undefined, connected: true, answered: false }, 20, "Complete"],
    ["nobody there", { error: refused, connected: false, answered: false }, 20, "ConnectionError"],
    [
      "roots cannot be read",
      { error: new Error("no roots"), connected: false, answered: false },
      20,
      "ConnectionError",
    ],
    ["unknown", { error: new ConnectError("x", Code.Unknown), connected: true, answered: true }, 10, "Reconnect"],
    ["cancelled", { error: new ConnectError("x", Code.Canceled), connected: true, answered: true }, 10, "Reconnect"],
    [
      "too late",
      { error: new ConnectError("x", Code.DeadlineExceeded), connected: true, answered: true },
      10,
      "Reconnect",
    ],
    [
      "closing",
      { error: new ConnectError("transport is closing", Code.Unavailable), connected: true, answered: true },
      10,
      "Reconnect",
    ],
    [
      "goaway",
      { error: new ConnectError("received prior goaway: 0", Code.Unavailable), connected: true, answered: true },
      10,
      "Reconnect",
    ],
    [
      "goaway at once",
      { error: new ConnectError("received prior goaway: 0", Code.Unavailable), connected: true, answered: false },
      20,
      "Reconnect",
    ],
    ["unavailable", { error: new ConnectError("no", Code.Unavailable), connected: true, answered: true }, 20, "Error"],
    ["refused", { error: new ConnectError("no", Code.Unauthenticated), connected: true, answered: false }, 20, "Error"],
  ];
  for (const [name, end, waitMs, reason] of cases) {
    assert.deepEqual(new ReconnectPolicy().after(end), { waitMs, reason }, name);
  }
});

test("failures wait 20 ms, twice as long each time, up to 15 s, and 20 ms again after a stream that worked", () => {
  const policy = new ReconnectPolicy();
  const failed = { error: refused, connected: false, answered: false };
  const waits = Array.from({ length: 12 }, () => policy.after(failed).waitMs);
  assert.deepEqual(waits, [20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15000, 15000]);
  policy.after({ error: undefined, connected: true, answered: true });
  assert.equal(policy.after(failed).waitMs, 20);
});
