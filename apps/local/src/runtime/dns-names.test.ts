import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode } from "dns-packet";
import { NO_OBJECTS } from "../objects/view.ts";
import type { Service } from "../resources/kinds.ts";
import { answer, nameTable } from "./dns-names.ts";

const DOMAIN = "cluster.local";

function service(name: string, clusterIPs: readonly string[]): Service {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec: { clusterIPs, ports: [{ port: 80 }] },
  };
}

const names = nameTable(
  { ...NO_OBJECTS, services: [service("web", ["10.0.0.1", "fd00::1"]), service("headless", ["None"])] },
  DOMAIN,
);

function ask(name: string, type = "A") {
  const reply = answer(encode({ id: 7, type: "query", questions: [{ type, name }] }), names, DOMAIN);
  assert.ok(reply !== undefined);
  const packet = decode(reply);
  assert.equal(packet.id, 7);
  return { code: packet.rcode, data: (packet.answers ?? []).map((one) => one.data) };
}

const cases: readonly (readonly [name: string, type: string, code: string, data: readonly string[]])[] = [
  ["web.shop.svc.cluster.local", "A", "NOERROR", ["10.0.0.1"]],
  ["WEB.shop.svc.cluster.local", "A", "NOERROR", ["10.0.0.1"]],
  ["web.shop.svc.cluster.local", "AAAA", "NOERROR", ["fd00::1"]],
  ["web.shop.svc.cluster.local", "TXT", "NOERROR", []],
  ["headless.shop.svc.cluster.local", "A", "NOERROR", []],
  ["nobody.shop.svc.cluster.local", "A", "NXDOMAIN", []],
  ["web.shop.svc.cluster.local.shop.svc.cluster.local", "A", "NXDOMAIN", []],
  ["example.com", "A", "SERVFAIL", []],
  ["notcluster.local", "A", "SERVFAIL", []],
];

for (const [name, type, code, data] of cases) {
  test(`${type} of ${name}: ${code} ${data.join()}`, () => assert.deepEqual(ask(name, type), { code, data }));
}

test("what is not a query of one question gets no answer", () => {
  assert.equal(answer(Buffer.from("no DNS"), names, DOMAIN), undefined);
  assert.equal(answer(encode({ type: "response", questions: [{ type: "A", name: "a" }] }), names, DOMAIN), undefined);
  assert.equal(answer(encode({ type: "query", questions: [] }), names, DOMAIN), undefined);
});
