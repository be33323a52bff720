import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { convert, type KubeObjects } from "../convert.ts";
import { DEFAULT_MESH_SETTINGS, type MeshSettings } from "./context.ts";
import type { KubeServiceEntry, KubeWorkloadEntry } from "./istio-objects.ts";
import type { KubePod, KubeService } from "./kubernetes.ts";

const OLD = "2026-01-01T00:00:00Z";
const NEW = "2026-02-01T00:00:00Z";

/** Namespaces `private-…` are seen by themselves only. */
const PRIVATE: MeshSettings = {
  ...DEFAULT_MESH_SETTINGS,
  serviceEntryVisibility: {
    defaultVisibility: "PUBLIC",
    policies: [
      { visibility: "NAMESPACE", matchingRules: [{ namespaceSelector: { matchLabels: { private: "yes" } } }] },
    ],
  },
};

const SERVICE: KubeService = { metadata: { name: "web", namespace: "shop" }, spec: { clusterIP: "10.96.0.1" } };
const POD: KubePod = { metadata: { name: "p", namespace: "shop" }, status: { phase: "Running", podIP: "10.0.0.1" } };

interface Case {
  readonly name: string;
  readonly objects: Partial<KubeObjects>;
  /** `namespace/hostname`, with its ranges, and with a star when it is the canonical one. */
  readonly sent: readonly string[];
  /** What entries that are not sent say. */
  readonly said?: readonly RegExp[];
}

const cases: readonly Case[] = [
  {
    name: "a Service keeps its hostname from another namespace's entry, older or not",
    objects: { services: [SERVICE], serviceEntries: [entry("thief/e", OLD, ["web.shop.svc.cluster.local"])] },
    sent: ["shop/web.shop.svc.cluster.local*"],
    said: [/^host "web\.shop\.svc\.cluster\.local" is in the domain of another namespace's Services; it is not sent$/],
  },
  {
    name: "a name in another namespace's domain is not taken before there is such a Service",
    objects: { serviceEntries: [entry("thief/e", OLD, ["soon.shop.svc.cluster.local"])] },
    sent: [],
    said: [/domain of another namespace/],
  },
  {
    name: "wildcards over other namespaces' domains are not taken",
    objects: {
      serviceEntries: [
        entry("thief/a", OLD, ["*.shop.svc.cluster.local"]),
        entry("thief/b", OLD, ["*.svc.cluster.local"]),
        entry("thief/c", OLD, ["*.local"]),
        entry("thief/d", OLD, ["*"]),
      ],
    },
    sent: [],
    said: [/shop/, /svc/, /local/, /"\*"/],
  },
  {
    name: "wildcards of the own domain and of the world are fine",
    objects: { serviceEntries: [entry("shop/e", OLD, ["*.shop.svc.cluster.local", "*.example.com", "*.notlocal"])] },
    sent: ["shop/*.example.com*", "shop/*.notlocal*", "shop/*.shop.svc.cluster.local*"],
  },
  {
    name: "a Service goes before entries of its own namespace",
    objects: { services: [SERVICE], serviceEntries: [entry("shop/e", OLD, ["web.shop.svc.cluster.local"])] },
    sent: ["shop/web.shop.svc.cluster.local*"],
    said: [/belongs to Service shop\/web/],
  },
  {
    name: "in one namespace the older entry has the host",
    objects: { serviceEntries: [entry("a/new", NEW, ["x.example"]), entry("a/old", OLD, ["x.example"])] },
    sent: ["a/x.example*"],
    said: [/^host "x\.example" belongs to ServiceEntry a\/old; it is not sent$/],
  },
  {
    name: "across namespaces the older entry has the host",
    objects: { serviceEntries: [entry("b/e", NEW, ["x.example", "y.example"]), entry("c/e", OLD, ["X.example"])] },
    sent: ["b/y.example*", "c/x.example*"],
    said: [/^host "x\.example" belongs to ServiceEntry c\/e/],
  },
  {
    name: "of two of one age the first by name has the host",
    objects: { serviceEntries: [entry("b/e", OLD, ["x.example"]), entry("a/e", OLD, ["x.example"])] },
    sent: ["a/x.example*"],
    said: [/belongs to ServiceEntry a\/e/],
  },
  {
    name: "a private entry does not shadow a public one, and is nobody's canonical one",
    objects: {
      namespaces: [{ metadata: { name: "a", labels: { private: "yes" } } }],
      serviceEntries: [entry("a/e", OLD, ["x.example"]), entry("b/e", NEW, ["x.example"])],
    },
    sent: ["a/x.example", "b/x.example*"],
  },
  {
    name: "private entries alone have no canonical one",
    objects: {
      namespaces: [{ metadata: { name: "a", labels: { private: "yes" } } }],
      serviceEntries: [entry("a/e", OLD, ["x.example"])],
    },
    sent: ["a/x.example"],
  },
  {
    name: "a private entry does not get at another namespace's Service, either",
    objects: {
      namespaces: [{ metadata: { name: "a", labels: { private: "yes" } } }],
      services: [SERVICE],
      serviceEntries: [
        entry("a/e", OLD, ["x.example"], ["10.96.0.1"]),
        entry("a/f", OLD, ["web.shop.svc.cluster.local"]),
      ],
    },
    sent: ["shop/web.shop.svc.cluster.local*"],
    said: [/^address 10\.96\.0\.1 of "x\.example" belongs to Service shop\/web/, /domain/],
  },
  {
    name: "a Service's address is not taken",
    objects: { services: [SERVICE], serviceEntries: [entry("thief/e", OLD, ["x.example"], ["10.9.9.9", "10.96.0.1"])] },
    sent: ["shop/web.shop.svc.cluster.local*"],
    said: [/^address 10\.96\.0\.1 of "x\.example" belongs to Service shop\/web; it is not sent$/],
  },
  {
    name: "a Service's address as a range of one is not taken",
    objects: { services: [SERVICE], serviceEntries: [entry("thief/e", OLD, ["x.example"], ["10.96.0.1/32"])] },
    sent: ["shop/web.shop.svc.cluster.local*"],
    said: [/address 10\.96\.0\.1/],
  },
  {
    name: "a pod's address is not taken",
    objects: { pods: [POD], serviceEntries: [entry("thief/e", OLD, ["x.example"], ["10.0.0.1"])] },
    sent: [],
    said: [/^address 10\.0\.0\.1 of "x\.example" is that of pod shop\/p in another namespace/],
  },
  {
    name: "of two entries the older has the address",
    objects: {
      serviceEntries: [entry("a/e", NEW, ["x.example"], ["10.8.0.1"]), entry("b/e", OLD, ["y.example"], ["10.8.0.1"])],
    },
    sent: ["b/y.example*"],
    said: [/^address 10\.8\.0\.1 of "x\.example" belongs to ServiceEntry b\/e/],
  },
  {
    name: "of two entries the older has the range, whatever its bits beyond",
    objects: {
      serviceEntries: [
        entry("a/e", NEW, ["x.example"], ["10.8.1.1/16"]),
        entry("b/e", OLD, ["y.example"], ["10.8.2.2/16"]),
      ],
    },
    sent: ["b/y.example 10.8.0.0/16*"],
    said: [/^address 10\.8\.0\.0\/16 of/],
  },
  {
    name: "entries of one namespace share addresses",
    objects: {
      serviceEntries: [entry("a/e", NEW, ["x.example"], ["10.8.0.1"]), entry("a/f", OLD, ["y.example"], ["10.8.0.1"])],
    },
    sent: ["a/x.example*", "a/y.example*"],
  },
  {
    name: "a range around a pod of another namespace is not taken; the rest of the entry is sent",
    objects: { pods: [POD], serviceEntries: [entry("thief/e", OLD, ["x.example"], ["10.0.0.0/16", "192.0.2.0/24"])] },
    sent: ["thief/x.example 192.0.2.0/24*"],
    said: [/^range 10\.0\.0\.0\/16 of "x\.example" holds addresses of Pods of namespace shop; it is not sent$/],
  },
  {
    name: "nor is the range of everything, or one in IPv6",
    objects: {
      pods: [{ ...POD, status: { phase: "Running", podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] } }],
      serviceEntries: [
        entry("thief/a", OLD, ["x.example"], ["0.0.0.0/0"]),
        entry("thief/b", OLD, ["y.example"], ["::/0"]),
        entry("thief/c", OLD, ["z.example"], ["fd00::/64"]),
      ],
    },
    sent: ["thief/x.example*", "thief/y.example*", "thief/z.example*"],
    said: [/^range 0\.0\.0\.0\/0/, /^range ::\/0/, /^range fd00::\/64/],
  },
  {
    name: "a range around a node on whose network another namespace's pod is, and that address itself, are not taken",
    objects: {
      pods: [{ ...POD, spec: { hostNetwork: true } }],
      serviceEntries: [
        entry("thief/e", OLD, ["x.example"], ["10.0.0.0/30"]),
        entry("thief/f", OLD, ["y.example"], ["10.0.0.1"]),
      ],
    },
    sent: ["thief/x.example*"],
    said: [/Pods of namespace shop/, /^address 10\.0\.0\.1 of "y\.example" is that of pod shop\/p/],
  },
  {
    name: "a range around another namespace's Service is not taken",
    objects: { services: [SERVICE], serviceEntries: [entry("thief/e", OLD, ["x.example"], ["10.96.0.0/12"])] },
    sent: ["shop/web.shop.svc.cluster.local*", "thief/x.example*"],
    said: [/^range 10\.96\.0\.0\/12 of "x\.example" holds addresses of Services of namespace shop; it is not sent$/],
  },
  {
    name: "a private entry does not get such a range, either",
    objects: {
      namespaces: [{ metadata: { name: "a", labels: { private: "yes" } } }],
      pods: [POD],
      serviceEntries: [entry("a/e", OLD, ["x.example"], ["10.0.0.0/8"])],
    },
    sent: ["a/x.example"],
    said: [/Pods of namespace shop/],
  },
  {
    name: "a range around pods and Services of one's own is fine",
    objects: {
      pods: [POD],
      services: [SERVICE],
      serviceEntries: [entry("shop/e", OLD, ["x.example"], ["10.0.0.0/8"])],
    },
    sent: ["shop/web.shop.svc.cluster.local*", "shop/x.example 10.0.0.0/8*"],
  },
  {
    name: "one's own in it do not hide those of others",
    objects: {
      pods: [{ ...POD, metadata: { name: "own", namespace: "a" } }, POD],
      workloadEntries: [machine("a/v", OLD, "10.7.0.1"), machine("shop/w", OLD, "10.7.0.2")],
      serviceEntries: [
        entry("a/e", NEW, ["x.example"], ["10.0.0.0/16"]),
        entry("a/f", NEW, ["y.example"], ["10.7.0.0/16"]),
      ],
    },
    sent: ["a/x.example*", "a/y.example*"],
    said: [/Pods of namespace shop/, /WorkloadEntry shop\/w/],
  },
  {
    name: "pods that have ended hold nothing, nor do addresses beside the range",
    objects: {
      pods: [
        { ...POD, status: { phase: "Succeeded", podIP: "10.0.0.1" } },
        { metadata: { name: "q", namespace: "shop" }, status: { phase: "Running", podIP: "10.0.1.0" } },
      ],
      serviceEntries: [entry("b/e", OLD, ["x.example"], ["10.0.0.0/24"])],
    },
    sent: ["b/x.example 10.0.0.0/24*"],
  },
  {
    name: "a machine outside that an older WorkloadEntry of another namespace describes is not taken, by address or range",
    objects: {
      workloadEntries: [machine("shop/w", OLD, "10.7.0.1")],
      serviceEntries: [
        entry("thief/e", NEW, ["x.example"], ["10.7.0.1"]),
        entry("thief/f", NEW, ["y.example"], ["10.7.0.0/16"]),
      ],
    },
    sent: ["thief/y.example*"],
    said: [
      /^address 10\.7\.0\.1 of "x\.example" belongs to WorkloadEntry shop\/w; it is not sent$/,
      /^range 10\.7\.0\.0\/16 of "y\.example" holds addresses of WorkloadEntry shop\/w; it is not sent$/,
    ],
  },
  {
    name: "a younger WorkloadEntry takes neither address nor range from another namespace's entry",
    objects: {
      workloadEntries: [machine("thief/w", NEW, "10.7.0.1"), machine("b/w", OLD, "10.7.0.2")],
      serviceEntries: [
        entry("b/e", OLD, ["x.example"], ["10.7.0.1"]),
        entry("b/f", OLD, ["y.example"], ["10.7.0.0/16"]),
      ],
    },
    sent: ["b/x.example*", "b/y.example 10.7.0.0/16*"],
  },
  {
    name: "a WorkloadEntry of another network is none of ours",
    objects: {
      workloadEntries: [{ ...machine("shop/w", OLD, "10.7.0.1"), spec: { address: "10.7.0.1", network: "far" } }],
      serviceEntries: [entry("b/e", NEW, ["x.example"], ["10.7.0.0/16"])],
    },
    sent: ["b/x.example 10.7.0.0/16*"],
  },
  {
    name: "a narrower range or address within another entry's range is fine: it goes first, wherever it is from",
    objects: {
      serviceEntries: [
        entry("a/e", OLD, ["x.example"], ["10.8.0.0/16"]),
        entry("b/e", NEW, ["y.example"], ["10.8.1.0/24", "10.8.2.1"]),
      ],
    },
    sent: ["a/x.example 10.8.0.0/16*", "b/y.example 10.8.1.0/24*"],
  },
  {
    name: "a name that is no service's claims nothing",
    objects: {
      services: [{ ...SERVICE, spec: { type: "ExternalName" } }],
      serviceEntries: [entry("shop/e", OLD, ["web.shop.svc.cluster.local"])],
    },
    sent: ["shop/web.shop.svc.cluster.local*"],
  },
];

describe("what several objects ask for", () => {
  for (const { name, objects, sent, said = [] } of cases) {
    it(name, () => {
      for (const all of [world(objects), reversed(world(objects))]) {
        const { resources, statuses } = convert(all, PRIVATE);
        const services = resources.flatMap((one) => (one.kind === "service" ? [one.service] : []));
        assert.deepEqual(
          services.map(({ namespace, hostname, cidrVips, canonical }) => {
            const ranges = cidrVips.map(({ cidr }) => ` ${cidr.ip}/${cidr.bits}`).join("");
            return `${namespace}/${hostname}${ranges}${canonical ? "*" : ""}`;
          }),
          sent,
        );
        const told = statuses.flatMap(({ conditions }) =>
          conditions.filter(({ type }) => type === "ambient.tulle.dev/Accepted"),
        );
        assert.equal(told.length, said.length, JSON.stringify(told));
        for (const [index, pattern] of said.entries()) assert.match(told[index]?.message ?? "", pattern);
        assert.ok(told.every(({ status, reason }) => status === "False" && reason === "Conflict"));
      }
    });
  }

  it("a WorkloadEntry does not stand in for a pod of another namespace", () => {
    const workloadEntries = [{ metadata: { name: "w", namespace: "thief" }, spec: { address: "10.0.0.1" } }];
    const { resources, statuses } = convert(world({ pods: [POD], workloadEntries }));
    assert.deepEqual(
      resources.map((one) => one.kind === "workload" && one.workload.name),
      ["p"],
    );
    const { manager, conditions } = statuses[0] ?? assert.fail();
    assert.equal(manager, "istio-ambient-workloadentry");
    assert.match(conditions[0]?.message ?? "", /address 10\.0\.0\.1 is that of pod shop\/p/);
  });
});

function entry(
  key: string,
  creationTimestamp: string,
  hosts: readonly string[],
  addresses?: readonly string[],
): KubeServiceEntry {
  const [namespace, name] = key.split("/");
  return { metadata: { name, namespace, creationTimestamp }, spec: { hosts, addresses, resolution: "STATIC" } };
}

function machine(key: string, creationTimestamp: string, address: string): KubeWorkloadEntry {
  const [namespace, name] = key.split("/");
  return { metadata: { name, namespace, creationTimestamp }, spec: { address } };
}

function world(parts: Partial<KubeObjects>): KubeObjects {
  return { namespaces: [], pods: [], services: [], authorizationPolicies: [], peerAuthentications: [], ...parts };
}

function reversed(objects: KubeObjects): KubeObjects {
  return { ...objects, serviceEntries: objects.serviceEntries?.toReversed() ?? [] };
}
