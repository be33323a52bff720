import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "@tulle/base";
import { type LabNamespace, until } from "@tulle/lab";
import { NO_OBJECTS } from "../objects/view.ts";
import type { Pod } from "../objects/pod.ts";
import type { Service } from "../resources/kinds.ts";
import { PodServiceAddresses, serviceRules } from "./service-addresses.ts";

const web: Service = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web", namespace: "shop" },
  spec: { clusterIPs: ["10.0.0.1", "fd00::1"], selector: { app: "web" }, ports: [{ port: 80, targetPort: "http" }] },
};

function pod(name: string, ready: boolean, ...ips: string[]): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "shop", uid: name, labels: { app: "web" }, annotations: {} },
    spec: {
      nodeName: "node-1",
      serviceAccountName: "default",
      containers: [{ name: "web", ports: [{ name: "http", containerPort: 8080 }] }],
    },
    status: {
      phase: "Running",
      podIP: ips[0] ?? "",
      podIPs: ips.map((ip) => ({ ip })),
      hostIP: "",
      containerStatuses: [],
      conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
    },
  };
}

/** The rules alone, without what surrounds them. */
function rulesFor(...pods: readonly Pod[]): string[] {
  return serviceRules({ ...NO_OBJECTS, services: [web], pods })
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.includes("daddr"));
}

test("one endpoint is the destination, of each family its own", () => {
  assert.deepEqual(rulesFor(pod("a", true, "10.1.0.1", "fd01::1"), pod("b", false, "10.1.0.2")), [
    "ip daddr 10.0.0.1 tcp dport 80 dnat ip to 10.1.0.1:8080",
    "ip6 daddr fd00::1 tcp dport 80 dnat ip6 to [fd01::1]:8080",
  ]);
});

test("several endpoints take turns by chance", () => {
  const [rule] = rulesFor(pod("a", true, "10.1.0.1"), pod("b", true, "10.1.0.2"));
  assert.equal(
    rule,
    "ip daddr 10.0.0.1 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.1.0.1 . 8080, 1 : 10.1.0.2 . 8080 }",
  );
});

test("without endpoints a connection is refused at once", () => {
  assert.deepEqual(rulesFor(), [
    "ip daddr 10.0.0.1 tcp dport 80 redirect to :1",
    "ip6 daddr fd00::1 tcp dport 80 redirect to :1",
  ]);
});

test("each pod gets the newest rules, again where they could not be written, and none that has gone", async () => {
  const written = new Map<string, string[]>();
  let broken = 1;
  const namespace = (label: string) => {
    const all: string[] = [];
    written.set(label, all);
    const write = (_program: string, _args: readonly string[], { input }: { readonly input: string }) => {
      if (label === "a" && all.length === 1 && broken-- > 0) return Promise.reject(new Error("busy"));
      all.push(input);
      return Promise.resolve("");
    };
    return { label, run: write } as unknown as LabNamespace;
  };
  const services = new PodServiceAddresses(silentLog);
  const objects = { ...NO_OBJECTS, services: [web], pods: [pod("w1", true, "10.1.0.1")] };
  services.update(objects);
  for (const label of ["a", "b", "gone"]) await services.attach(label, namespace(label));
  services.detach("gone");
  const newest = { ...objects, pods: [pod("w2", true, "10.1.0.2")] };
  // Both at once: the one in between need not be written.
  services.update({ ...objects, pods: [] });
  services.update(newest);
  await until(() => written.get("a")?.at(-1) === serviceRules(newest), { what: "the second attempt" });
  assert.deepEqual(written.get("b"), [serviceRules(objects), serviceRules(newest)]);
  assert.deepEqual(written.get("gone"), [serviceRules(objects)]);
});
