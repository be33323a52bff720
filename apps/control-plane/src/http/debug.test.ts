import assert from "node:assert/strict";
import type { IncomingMessage, ServerResponse } from "node:http";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { core } from "@tulle/api";
import { Profiler } from "@tulle/telemetry/profiling";
import type { XdsClientStatus } from "@tulle/xds";
import type { Caller } from "../auth/authenticator.ts";
import { type DebugSources, respondDebug } from "./debug.ts";

function client(pod: string, namespace: string, wildcard: boolean): XdsClientStatus<Caller> {
  const node = create(core.NodeSchema, { id: `ztunnel~1.1.1.1~${pod}.${namespace}~${namespace}.svc.cluster.local` });
  const type = { typeUrl: "t", sentNonce: "1", ackedNonce: "1", ackedAt: 0, error: undefined, wildcard };
  const principal = { namespace, serviceAccount: "a", pod: undefined, node: undefined };
  return { peer: { principal, node }, types: [type], connectedAt: 0 };
}

const SOURCES: DebugSources = {
  clusterId: "Kubernetes",
  clients: () => [client("z", "istio-system", true), client("cart", "shop", false)],
  mesh: () => ({ workloads: [{ name: "secret" }], services: [], policies: [], stagedServices: {} }),
  settings: () => ({}),
  objects: () => [],
  synced: () => true,
};

/** As a caller of the namespace shop, from another machine. */
async function ask(path: string): Promise<{ status: number; text: string }> {
  const authenticate = () => Promise.resolve({ ok: true as const, caller: client("", "shop", false).peer.principal });
  const guard = { authenticator: { authenticate }, clusterId: "Kubernetes", namespaces: new Set(["istio-system"]) };
  const request = { url: path, headers: { authorization: "Bearer t" }, socket: { remoteAddress: "10.0.0.9" } };
  const answer = { status: 0, text: "" };
  const response = {
    writeHead: (status: number) => (answer.status = status),
    end: (text: string) => (answer.text = text),
  };
  const mine = await respondDebug(request as unknown as IncomingMessage, response as unknown as ServerResponse, {
    sources: SOURCES,
    guard,
    profiler: new Profiler(() => []),
  });
  assert.ok(mine);
  return answer;
}

test("a caller of another namespace sees its own proxy, and of it no more than it is told", async () => {
  for (const page of ["syncz", "ambientz", "registryz", "authorizationz", "configz", "connections", "adsz", "mesh"]) {
    assert.equal((await ask(`/debug/${page}`)).status, 403, page);
  }
  assert.equal((await ask("/debug/config_dump?proxyID=z.istio-system")).status, 404);
  assert.equal((await ask("/debug/config_dump")).status, 400);
  const own = await ask("/debug/config_dump?proxyID=cart.shop");
  assert.equal(own.status, 200);
  assert.doesNotMatch(own.text, /secret/);
  assert.equal((await ask("/debug/constructor")).status, 404);
  // Profiles are for those who see everything.
  for (const path of ["profile?seconds=1", "heap", "heap/profiling?activate=true"]) {
    assert.equal((await ask(`/debug/pprof/${path}`)).status, 404, path);
  }
});
