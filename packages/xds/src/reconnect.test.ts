import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ReconnectPolicy } from "./reconnect.ts";

const noJitter = () => 0.5;
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
    assert.deepEqual(new ReconnectPolicy(noJitter).after(end), { waitMs, reason }, name);
  }
});

test("failures wait 20 ms, twice as long each time, up to 5 s, and 20 ms again after a stream that worked", () => {
  const policy = new ReconnectPolicy(noJitter);
  const failed = { error: refused, connected: false, answered: false };
  const waits = Array.from({ length: 12 }, () => policy.after(failed).waitMs);
  assert.deepEqual(waits, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000, 5000, 5000]);
  policy.after({ error: undefined, connected: true, answered: true });
  assert.equal(policy.after(failed).waitMs, 20);
});

test("nodes that lost the control plane together do not come back together", () => {
  const waits = [0, 0.999].map((random) => {
    const policy = new ReconnectPolicy(() => random);
    const failed = { error: refused, connected: false, answered: false };
    return Array.from({ length: 10 }, () => policy.after(failed).waitMs).at(-1) ?? 0;
  });
  assert.deepEqual(waits.map(Math.round), [4000, 5998]);
});
