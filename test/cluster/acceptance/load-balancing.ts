import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type EchoAnswer, echoAnswer } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { type App, NAMESPACE } from "./scene.ts";

/** Enough that one of two endpoints is left out by chance once in half a million runs. */
const REQUESTS = 20;
const CLIENTS: readonly App[] = ["client", "visitor", "uncaptured"];
const PROTOCOLS = [
  { protocol: "HTTP/1.1", flags: [] },
  { protocol: "HTTP/2.0", flags: ["-http2"] },
] as const;

/** Without a waypoint a service's pod is chosen for a connection, not for a request. */
export function loadBalancingTests(apps: () => Applications): void {
  const answers = async (from: App, flags: readonly string[]): Promise<EchoAnswer[]> => {
    const urls = Array.from({ length: REQUESTS }, () => `http://captured.${NAMESPACE}/`);
    const said = await apps().cluster.execDirectly(apps().pod(from), ["/labbox", "get", ...flags, ...urls]);
    return said.trim().split("\n").map(echoAnswer);
  };
  const distinct = (all: readonly EchoAnswer[], of: (answer: EchoAnswer) => string) => new Set(all.map(of)).size;

  describe("load balancing", () => {
    for (const { protocol, flags } of PROTOCOLS) {
      test(`leaves all requests of one kept ${protocol} connection at one pod, and chooses anew for each new one`, async () => {
        for (const from of CLIENTS) {
          const kept = await answers(from, ["-kept", ...flags]);
          assert.equal(kept.length, REQUESTS, from);
          assert.deepEqual(new Set(kept.map((answer) => answer.protocol)), new Set([protocol]));
          // The server sees one connection, so it was one.
          assert.equal(
            distinct(kept, ({ remote }) => remote),
            1,
            from,
          );
          assert.equal(
            distinct(kept, ({ pod }) => pod),
            1,
            from,
          );

          const fresh = await answers(from, flags);
          assert.equal(
            distinct(fresh, ({ pod }) => pod),
            apps().pods("captured").length,
            from,
          );
        }
      });
    }
  });
}
