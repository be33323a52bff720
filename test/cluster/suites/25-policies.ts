import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { admissionOf, ECHO_PORTS, type Effect, echo, ENROL, Mesh, refusalOf, type TestCluster } from "../src/index.ts";

const NAMESPACE = "policies";
/** Users rely on a second, and a quiet machine takes some twenty milliseconds; one that does much else may be late once. */
const EFFECT_LIMIT_MS = 10_000;
const MEDIAN_LIMIT_MS = 1000;
/** For what is waited for beside it, and for connections that must not fail because the machine is busy. */
const PATIENCE_MS = 30_000;

const SERVER = { matchLabels: { app: "server" } };
const principal = (name: string) => `cluster.local/ns/${NAMESPACE}/sa/${name}`;
const from = (name: string) => [{ from: [{ source: { principals: [principal(name)] } }] }];

function authorization(spec: object): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "tried", namespace: NAMESPACE },
    spec,
  };
}

function peerAuthentication(spec: object): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name: "tried", namespace: NAMESPACE },
    spec,
  };
}

/** Each refuses one client and must leave the other alone. */
const CASES = [
  {
    what: "a DENY of a principal at the pods of a selector",
    policy: authorization({ selector: SERVER, action: "DENY", rules: from("foe") }),
    refused: "foe",
  },
  {
    what: "a DENY of a principal in the whole namespace",
    policy: authorization({ action: "DENY", rules: from("foe") }),
    refused: "foe",
  },
  {
    what: "an ALLOW of another principal at the pods of a selector",
    policy: authorization({ selector: SERVER, action: "ALLOW", rules: from("friend") }),
    refused: "foe",
  },
  {
    what: "an ALLOW of another principal in the whole namespace",
    policy: authorization({ action: "ALLOW", rules: from("friend") }),
    refused: "outsider",
  },
  {
    what: "a STRICT PeerAuthentication at the pods of a selector",
    policy: peerAuthentication({ selector: SERVER, mtls: { mode: "STRICT" } }),
    refused: "outsider",
  },
  {
    what: "a STRICT PeerAuthentication in the whole namespace",
    policy: peerAuthentication({ mtls: { mode: "STRICT" } }),
    refused: "outsider",
  },
] as const;

interface PolicyObject {
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
  };
}

/** What a policy does while it comes and goes. */
export function suite(cluster: () => TestCluster): void {
  describe("policies in force", () => {
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } };
    const apps = [
      ...echo({ name: "server", namespace: NAMESPACE, replicas: 2 }),
      ...echo({ name: "friend", namespace: NAMESPACE }),
      ...echo({ name: "foe", namespace: NAMESPACE }),
      ...echo({ name: "outsider", namespace: NAMESPACE, labels: { "istio.io/dataplane-mode": "none" } }),
    ];
    const mesh = () => new Mesh(cluster());
    const effects: Effect[] = [];

    /** `policies/foe-…` */
    const podOf = async (app: string) => {
      const [pod] = await cluster().pods(`app=${app}`, NAMESPACE);
      assert.ok(pod !== undefined);
      return `${NAMESPACE}/${pod.metadata.name}`;
    };

    before(async () => {
      await mesh().install();
      await cluster().apply(namespace);
      await cluster().kubectl(["label", "namespace", NAMESPACE, ENROL]);
      await cluster().apply(apps);
      await Promise.all(
        ["server", "friend", "foe", "outsider"].map((app) => cluster().rollout(`deploy/${app}`, NAMESPACE)),
      );
      for (const app of ["server", "friend", "foe"]) {
        for (const { metadata } of await cluster().pods(`app=${app}`, NAMESPACE)) {
          await mesh().waitForCaptured(`${NAMESPACE}/${metadata.name}`);
        }
      }
    });

    after(async () => {
      await cluster().delete(namespace);
    });

    for (const { what, policy, refused } of CASES) {
      test(`${what} refuses new connections and cuts open ones at once, and nobody else's`, async (t) => {
        const { kind } = policy as { readonly kind: string };
        const [client, friend] = [await podOf(refused), await podOf("friend")];
        const server = "server";
        await cluster().waitForEndpoint({ from: client, url: `http://${server}/`, answer: /^200 / });
        await using held = await cluster().holdConnection(friend, {
          address: `${server}:${ECHO_PORTS.tcp}`,
          timeoutMs: PATIENCE_MS,
        });
        await using load = await cluster().startLoad(friend, {
          url: `http://${server}/`,
          rate: 50,
          timeoutMs: PATIENCE_MS,
        });
        try {
          const effect = await refusalOf(cluster(), { client, server, change: () => cluster().apply(policy) });
          effects.push(effect);
          t.diagnostic(`new refused after ${effect.newMs} ms, open cut after ${effect.openMs} ms`);
          assert.ok(effect.newMs < EFFECT_LIMIT_MS && effect.openMs < EFFECT_LIMIT_MS);
          // At every pod of the server, not only at the first that refused: each node hears of it by itself.
          for (const { status } of await cluster().pods("app=server", NAMESPACE)) {
            const url = `http://${status.podIP}:${ECHO_PORTS.http}/`;
            const get = () => cluster().execDirectly(client, ["/labbox", "get", "-timeout=2s", url]);
            await until(
              () =>
                get().then(
                  () => false,
                  () => true,
                ),
              { what: `${status.podIP} to refuse ${client}`, timeoutMs: PATIENCE_MS },
            );
          }
          const path = `/apis/security.istio.io/v1/namespaces/${NAMESPACE}/${kind === "PeerAuthentication" ? "peerauthentications" : "authorizationpolicies"}/tried`;
          const condition = await until(
            async () =>
              (await cluster().get<PolicyObject>(path))?.status?.conditions?.find(
                ({ type }) => type === "ZtunnelAccepted",
              ),
            { what: `ZtunnelAccepted of the ${kind}`, timeoutMs: PATIENCE_MS },
          );
          assert.deepEqual([condition.status, condition.reason], ["True", "Accepted"]);
        } finally {
          const change = () => cluster().delete(policy);
          const admittedMs = await admissionOf(cluster(), { client, server, change });
          t.diagnostic(`let in again after ${admittedMs} ms`);
        }
        assert.equal(await held.stop(), undefined);
        await load.stop();
        assert.deepEqual(load.failures, []);
      });
    }

    test("all this at once, in the median", () => {
      const times = effects.flatMap(({ newMs, openMs }) => [newMs, openMs]).toSorted((a, b) => a - b);
      assert.equal(times.length, 2 * CASES.length);
      assert.ok((times[times.length >> 1] ?? Infinity) < MEDIAN_LIMIT_MS, times.join(", "));
    });

    test("a refusal names the policy in the access log of the server's side", async () => {
      const policy = authorization({ selector: SERVER, action: "DENY", rules: from("foe") });
      const since = Date.now();
      const foe = await podOf("foe");
      try {
        await refusalOf(cluster(), { client: foe, server: "server", change: () => cluster().apply(policy) });
        const line = await until(
          async () => {
            const lines = [...(await mesh().accessLog(1, since)), ...(await mesh().accessLog(2, since))];
            return lines.find(({ direction, error }) => direction === "inbound" && error?.includes("policy rejection"));
          },
          { what: "the refusal in the log", timeoutMs: PATIENCE_MS, intervalMs: 500 },
        );
        assert.match(line.error ?? "", new RegExp(`${NAMESPACE}/tried`));
        assert.equal(line["src.identity"], `spiffe://${principal("foe")}`);
        assert.equal(line.level, "error");
      } finally {
        await cluster().delete(policy);
      }
    });
  });
}
