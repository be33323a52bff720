import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { test } from "node:test";
import type { Authenticator } from "../auth/authenticator.ts";
import { debugAccess } from "./debug-guard.ts";

const authenticator: Authenticator = {
  authenticate: (token) => {
    const [namespace, serviceAccount] = token.split("/");
    return Promise.resolve(
      namespace === undefined || serviceAccount === undefined
        ? { ok: false, reason: "unknown" }
        : { ok: true, caller: { namespace, serviceAccount, pod: undefined, node: undefined } },
    );
  },
};
const OPTIONS = { authenticator, clusterId: "Kubernetes", namespaces: new Set(["istio-system", "ops"]) };

async function access(remoteAddress: string | undefined, headers: Readonly<Record<string, string>> = {}) {
  const request = { headers: { host: "localhost:15014", ...headers }, socket: { remoteAddress } };
  const result = await debugAccess(request as unknown as IncomingMessage, OPTIONS);
  if (result.kind === "refused") return `${result.status}`;
  return result.kind === "namespace" ? `only ${result.namespace}` : "everything";
}

const FAR = "10.9.8.7";
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

const CASES: readonly (readonly [string, string | undefined, Readonly<Record<string, string>>, string])[] = [
  ["loopback", "127.0.0.1", {}, "everything"],
  ["loopback as a dual-stack socket has it", "::ffff:127.0.0.1", {}, "everything"],
  ["loopback, IPv6", "::1", {}, "everything"],
  ["loopback, on behalf of a web page", "127.0.0.1", { origin: "http://page.example" }, "403"],
  ["loopback by its address", "127.0.0.1", { host: "127.0.0.1:15014" }, "everything"],
  ["loopback by its address, IPv6", "::1", { host: "[::1]:15014" }, "everything"],
  ["a page that has its own name lead here", "127.0.0.1", { host: "evil.example:15014" }, "401"],
  ["a page whose name begins like ours", "::1", { host: "localhost.evil.example" }, "401"],
  ["loopback without a Host", "127.0.0.1", { host: "" }, "401"],
  [
    "another name of ours on loopback, with a token",
    "127.0.0.1",
    { host: "istiod.istio-system.svc:15014", ...bearer("istio-system/ztunnel") },
    "everything",
  ],
  [
    "a page's name, with a token of elsewhere",
    "127.0.0.1",
    { host: "evil.example", ...bearer("shop/cart") },
    "only shop",
  ],
  ["a local name from afar", FAR, { host: "localhost" }, "401"],
  ["a socket that is closed already", undefined, {}, "401"],
  ["no token", FAR, {}, "401"],
  ["a header that says loopback", FAR, { "x-forwarded-for": "127.0.0.1" }, "401"],
  ["another scheme", FAR, { authorization: "Basic abc" }, "401"],
  ["a bad token", FAR, bearer("bad"), "401"],
  ["our own namespace", FAR, bearer("istio-system/ztunnel"), "everything"],
  ["a namespace that is let in", FAR, bearer("ops/prometheus"), "everything"],
  ["another cluster's name", FAR, { ...bearer("istio-system/ztunnel"), clusterid: "other" }, "401"],
  ["another namespace", FAR, bearer("shop/cart"), "only shop"],
];

test("who may look into the control plane", async (t) => {
  for (const [name, address, headers, expected] of CASES) {
    await t.test(`${name}: ${expected}`, async () => assert.equal(await access(address, headers), expected));
  }
});
