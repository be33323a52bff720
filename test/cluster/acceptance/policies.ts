import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS, MESH_NAMESPACE } from "../src/index.ts";
import { type App, ELSEWHERE, hosts, NAMESPACE, type Scene } from "./scene.ts";

const HTTP = ECHO_PORTS.http;
const TCP = ECHO_PORTS.tcp;
const CAPTURED = { matchLabels: { app: "captured" } };
/** A second on a quiet machine; many questions at a time keep a busy one from what they wait for. */
const EFFECT_LIMIT = { timeoutMs: 60_000, intervalMs: 300 };
const CONDITION_LIMIT_MS = 30_000;
const principal = (app: App) => `cluster.local/ns/${NAMESPACE}/sa/${app}`;

/** Which clients a port of `captured` lets in, of those that are asked. */
type Expected = Readonly<Record<number, Partial<Readonly<Record<App, boolean>>>>>;

type Mode = string | undefined;

function peerAuthentication(name: string, namespace: string, mode: Mode, more: object = {}): object {
  const metadata = { name, namespace };
  const spec = { mtls: { mode: mode ?? "UNSET" }, ...more };
  return { apiVersion: "security.istio.io/v1", kind: "PeerAuthentication", metadata, spec };
}

function onWorkload(mode: Mode, ports: Readonly<Record<number, string>> = {}): object {
  const levels = Object.entries(ports).map(([port, value]) => [port, { mode: value }]);
  const portLevelMtls = levels.length === 0 ? {} : { portLevelMtls: Object.fromEntries(levels) };
  return peerAuthentication("captured", NAMESPACE, mode, { selector: CAPTURED, ...portLevelMtls });
}

/**
 * What plaintext is let in, by port; mutual TLS always is. Each differs from the one before it in what it lets in or how,
 * and all three policies are there all the time: what is not named is UNSET.
 */
const PEER_AUTHENTICATION: readonly {
  readonly what: string;
  readonly mesh?: string;
  readonly namespace?: string;
  readonly workload?: string;
  readonly ports?: Readonly<Record<number, string>>;
  readonly plaintext: Readonly<Record<number, boolean>>;
}[] = [
  { what: "STRICT", namespace: "STRICT", plaintext: { [HTTP]: false, [TCP]: false } },
  { what: "PERMISSIVE", namespace: "PERMISSIVE", plaintext: { [HTTP]: true, [TCP]: true } },
  {
    what: "a STRICT workload with a PERMISSIVE port",
    workload: "STRICT",
    ports: { [HTTP]: "PERMISSIVE" },
    plaintext: { [HTTP]: true, [TCP]: false },
  },
  {
    what: "STRICT in the mesh with a PERMISSIVE port",
    mesh: "STRICT",
    ports: { [TCP]: "PERMISSIVE" },
    plaintext: { [HTTP]: false, [TCP]: true },
  },
  {
    what: "a PERMISSIVE workload with a STRICT port under STRICT in the mesh",
    mesh: "STRICT",
    workload: "PERMISSIVE",
    ports: { [TCP]: "STRICT" },
    plaintext: { [HTTP]: true, [TCP]: false },
  },
  {
    what: "PERMISSIVE in the mesh with a STRICT port",
    mesh: "PERMISSIVE",
    ports: { [HTTP]: "STRICT" },
    plaintext: { [HTTP]: false, [TCP]: true },
  },
  {
    what: "a DISABLE port under STRICT in the mesh",
    mesh: "STRICT",
    ports: { [HTTP]: "DISABLE" },
    plaintext: { [HTTP]: true, [TCP]: false },
  },
  {
    what: "PERMISSIVE in the namespace under STRICT in the mesh",
    mesh: "STRICT",
    namespace: "PERMISSIVE",
    plaintext: { [HTTP]: true, [TCP]: true },
  },
  { what: "STRICT in the mesh", mesh: "STRICT", plaintext: { [HTTP]: false, [TCP]: false } },
];

const allow = (...rules: object[]) => ({ selector: CAPTURED, action: "ALLOW", rules });
const deny = (...rules: object[]) => ({ selector: CAPTURED, action: "DENY", rules });
const source = (fields: object) => ({ from: [{ source: fields }] });
const operation = (fields: object) => ({ to: [{ operation: fields }] });
const when = (key: string, ...values: string[]) => ({ when: [{ key, values }] });

/** Each lets somebody in and keeps somebody out. */
const AUTHORIZATION: readonly {
  readonly what: string;
  readonly spec: (apps: Scene) => object;
  readonly expected: Expected;
}[] = [
  {
    what: "ALLOW of a principal",
    spec: () => allow(source({ principals: [principal("client")] })),
    expected: { [HTTP]: { client: true, stranger: false, visitor: false, uncaptured: false } },
  },
  {
    what: "DENY of notPrincipals",
    spec: () => deny(source({ notPrincipals: [principal("client")] })),
    expected: { [HTTP]: { client: true, stranger: false, visitor: false, uncaptured: false } },
  },
  {
    what: "ALLOW of a pattern of principals",
    spec: () => allow(source({ principals: [`cluster.local/ns/${NAMESPACE}/*`] })),
    expected: { [HTTP]: { client: true, stranger: true, visitor: false, uncaptured: false } },
  },
  {
    what: "ALLOW of a namespace",
    spec: () => allow(source({ namespaces: [ELSEWHERE] })),
    expected: { [HTTP]: { client: false, visitor: true, uncaptured: false } },
  },
  {
    what: "DENY of notNamespaces",
    spec: () => deny(source({ notNamespaces: [NAMESPACE] })),
    expected: { [HTTP]: { client: true, visitor: false, uncaptured: false } },
  },
  {
    what: "ALLOW of a port",
    spec: () => allow(operation({ ports: [`${HTTP}`] })),
    expected: { [HTTP]: { client: true, uncaptured: true }, [TCP]: { client: false, uncaptured: false } },
  },
  {
    what: "DENY of notPorts",
    spec: () => deny(operation({ notPorts: [`${TCP}`] })),
    expected: { [HTTP]: { client: false, uncaptured: false }, [TCP]: { client: true, uncaptured: true } },
  },
  {
    what: "ALLOW of ipBlocks",
    spec: (apps) => allow(source({ ipBlocks: apps.pod("client").status.podIPs?.map(({ ip }) => ip) })),
    expected: { [HTTP]: { client: true, stranger: false, uncaptured: false } },
  },
  {
    what: "DENY of notIpBlocks",
    spec: (apps) => deny(source({ notIpBlocks: apps.pod("uncaptured").status.podIPs?.map(({ ip }) => ip) })),
    expected: { [HTTP]: { client: false, uncaptured: true } },
  },
  {
    what: "ALLOW of a namespace to a port under a condition, all of which must hold",
    spec: () =>
      allow({
        ...source({ namespaces: [NAMESPACE] }),
        ...operation({ ports: [`${HTTP}`] }),
        ...when("source.principal", principal("client"), principal("visitor")),
      }),
    expected: { [HTTP]: { client: true, stranger: false, visitor: false }, [TCP]: { client: false } },
  },
  {
    what: "ALLOW of one of two rules",
    spec: () => allow(source({ principals: [principal("client")] }), operation({ ports: [`${TCP}`] })),
    expected: { [HTTP]: { client: true, stranger: false }, [TCP]: { stranger: true } },
  },
  {
    what: "ALLOW of nothing",
    spec: () => ({ selector: CAPTURED }),
    expected: { [HTTP]: { client: false, uncaptured: false } },
  },
];

/** Who may speak to whom, by what ztunnel can see. */
export function policyTests(apps: () => Scene): void {
  /** Waits until both pods of `captured` let in just who they should, at both of their addresses. */
  const becomes = async (expected: Expected) => {
    const questions = Object.entries(expected).flatMap(([port, clients]) =>
      (Object.entries(clients) as [App, boolean][]).flatMap(([client, allowed]) =>
        apps()
          .pods("captured")
          .flatMap(hosts)
          .map((host) => ({ client, allowed, address: `${host}:${port}` })),
      ),
    );
    await Promise.all(
      questions.map(({ client, allowed, address }) =>
        until(async () => (await apps().reaches(client, address)) === allowed, {
          what: `${client} to be ${allowed ? "let in" : "refused"} at ${address}`,
          ...EFFECT_LIMIT,
        }),
      ),
    );
  };
  const open: Expected = { [HTTP]: { client: true, uncaptured: true }, [TCP]: { client: true, uncaptured: true } };
  const condition = (type: string, reason: string) =>
    until(
      async () => (await apps().policyConditions("tried")).find((one) => one.type === type && one.reason === reason),
      { what: `${type} for the reason ${reason}`, timeoutMs: CONDITION_LIMIT_MS },
    );

  describe("PeerAuthentication", () => {
    const policies = (mesh?: Mode, namespace?: Mode, workload?: Mode, ports?: Readonly<Record<number, string>>) => [
      peerAuthentication("default", MESH_NAMESPACE, mesh),
      peerAuthentication("default", NAMESPACE, namespace),
      onWorkload(workload, ports),
    ];

    after(async () => {
      await apps().delete(...policies());
      await becomes(open);
    });

    for (const { what, mesh, namespace, workload, ports, plaintext } of PEER_AUTHENTICATION) {
      const found = Object.entries(plaintext).map(([port, isOpen]) => `${port} ${isOpen ? "open" : "closed"}`);
      test(`${what}: plaintext finds ${found.join(", ")}, mutual TLS all open`, async () => {
        await apps().apply(...policies(mesh, namespace, workload, ports));
        const expected = Object.entries(plaintext).map(([port, uncaptured]) => [port, { uncaptured, client: true }]);
        await becomes(Object.fromEntries(expected) as Expected);
      });
    }
  });

  describe("AuthorizationPolicy", () => {
    const policy = (spec: object) => ({
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "tried", namespace: NAMESPACE },
      spec,
    });

    after(async () => {
      await apps().delete(policy({}));
      await becomes(open);
    });

    for (const { what, spec, expected } of AUTHORIZATION) {
      test(what, async () => {
        await apps().apply(policy(spec(apps())));
        await becomes(expected);
      });
    }

    test("that needs HTTP is enforced more strictly, never less, and says so", async () => {
      await apps().apply(
        policy(deny({ ...source({ principals: [principal("client")] }), ...operation({ methods: ["GET"] }) })),
      );
      await becomes({ [HTTP]: { client: false, stranger: true }, [TCP]: { client: false, stranger: true } });
      const { status, message } = await condition("ZtunnelAccepted", "UnsupportedValue");
      assert.equal(status, "True");
      assert.match(message, /methods/);
      assert.match(
        await apps().troubles(),
        /AuthorizationPolicy +acceptance +tried +ZtunnelAccepted=True +UnsupportedValue/,
      );
    });

    test("that is attached to a service is no business of ztunnel, and says that nothing enforces it", async () => {
      const targetRefs = [{ group: "", kind: "Service", name: "captured" }];
      await apps().apply(policy({ targetRefs, action: "DENY", rules: [{}] }));
      assert.equal((await condition("WaypointAccepted", "AncestorNotBound")).status, "False");
      await becomes(open);
    });
  });
}
