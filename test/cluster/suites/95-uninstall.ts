import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { ROOT_CERT_CONFIG_MAP } from "@tulle/base";
import { type CommandError, until } from "@tulle/lab";
import {
  ECHO_PORTS,
  echo,
  ENROL,
  type HeldConnection,
  type Load,
  MESH_NAMESPACE,
  Mesh,
  type PodObject,
  type TestCluster,
} from "../src/index.ts";

const NAMESPACE = "staying";
const NODES = [1, 2] as const;
/** The node agent gives captured connections ten seconds from when peers were told; a slow clock gets one less. */
const DRAIN_MS = 9_000;
const UNINSTALL_LIMIT_MS = 180_000;
const DNS_LIMIT_MS = 120_000;
/** What must not fail: what is refused or cut fails at once, only a machine that is far too busy takes long. */
const PATIENCE_MS = 30_000;
/** For an echo on what drains: less than DRAIN_MS, so that what nobody carries from the start on does not count as drained. */
const ECHO_LIMIT_MS = 8_000;
/** Everything of ours begins so. */
const OUR_ANNOTATIONS = /^ambient\.(istio\.io|tulle\.dev)\//;
/** Kinds that no namespace holds. */
const CLUSTER_WIDE = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations";

interface ObjectList {
  readonly items: readonly { readonly metadata: { readonly name: string; readonly namespace?: string } }[];
}

/** The last thing that a user does with a mesh. Nothing of it may be needed any more, and nothing of it may be left. */
export function suite(cluster: () => TestCluster): void {
  describe("uninstalling", () => {
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } };
    const apps = [
      ...echo({ name: "caller", namespace: NAMESPACE, node: 1 }),
      ...echo({ name: "callee", namespace: NAMESPACE, node: 2 }),
    ];
    /** A user's own object. Not one that asks for identities: who has left the mesh already has none. */
    const policy = {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "users-own", namespace: NAMESPACE },
      spec: { action: "DENY", rules: [{ from: [{ source: { namespaces: ["elsewhere"] } }] }] },
    };
    const mesh = () => new Mesh(cluster());
    const podOf = async (app: string) => {
      const [pod] = await cluster().pods(`app=${app}`, NAMESPACE);
      return pod ?? assert.fail(`${app} has no pod`);
    };
    const referenceOf = ({ metadata }: PodObject) => `${metadata.namespace}/${metadata.name}`;
    const onNode = (node: number, script: string) => cluster().nodeExec(node, ["sh", "-c", script]);

    let caller: PodObject;
    let callee: PodObject;
    /** Made before the pods were in the mesh; through ztunnel. */
    let older: HeldConnection;
    let captured: HeldConnection;
    let load: Load;
    let started = 0;
    /** The primary CNI configuration as it was before the mesh, by node. */
    const originals = new Map<number, string>();

    before(async () => {
      await mesh().install();
      await cluster().apply([namespace]);
      await cluster().apply([...apps, policy]);
      for (const app of ["caller", "callee"]) await cluster().rollout(`deploy/${app}`, NAMESPACE);
      [caller, callee] = [await podOf("caller"), await podOf("callee")];
      // Outside of the mesh the cluster's own DNS is asked: after an outage of the API server it takes a while to follow.
      const named = { from: referenceOf(caller), url: `http://callee.${NAMESPACE}/`, answer: "200 " };
      await cluster().waitForEndpoint({ ...named, timeoutMs: DNS_LIMIT_MS });
      const address = `${callee.status.podIP}:${ECHO_PORTS.tcp}`;
      older = await cluster().holdConnection(referenceOf(caller), { address, timeoutMs: PATIENCE_MS });
      await cluster().kubectl(["label", "namespace", NAMESPACE, ENROL]);
      [caller, callee] = [
        await mesh().waitForCaptured(referenceOf(caller)),
        await mesh().waitForCaptured(referenceOf(callee)),
      ];
      captured = await cluster().holdConnection(referenceOf(caller), { address, timeoutMs: ECHO_LIMIT_MS });
      const url = `http://${callee.status.podIP}:${ECHO_PORTS.http}/`;
      load = await cluster().startLoad(referenceOf(caller), { url, rate: 50, newShare: 1, timeoutMs: PATIENCE_MS });
      for (const node of NODES) {
        // The record that the node agent made before it touched the file.
        const record = await onNode(node, "cat /etc/cni/net.d/.*.tulle-original");
        originals.set(node, (JSON.parse(record) as { content: string }).content);
        // What is looked for below is there now: else its absence would prove nothing.
        assert.match(await onNode(node, "ls -A /opt/cni/bin"), /^istio-cni$/m);
        assert.match(await onNode(node, rulesets), /table inet tulle-node[^]*chain/);
        assert.notEqual((await onNode(node, processes)).trim(), "");
      }
      started = Date.now();
      await mesh().tulle(["uninstall", "-y"], { timeoutMs: UNINSTALL_LIMIT_MS });
    });

    after(async () => {
      for (const one of [older, captured, load]) await one?.[Symbol.asyncDispose]();
      await cluster().kubectl(["delete", "namespace", NAMESPACE, "--wait=false"]);
    });

    test("loses no new connection, and none that is older than the mesh", async () => {
      await load.stop();
      assert.deepEqual(load.failures, []);
      assert.equal(await older.stop(), undefined);
    });

    test("lets captured connections go on until the drain deadline", () => {
      const { failure } = captured;
      const lasted = (failure?.time ?? Number.POSITIVE_INFINITY) - started;
      assert.ok(lasted >= DRAIN_MS, `cut after ${lasted} ms`);
    });

    test("leaves the pods as they are, which reach each other in plaintext", async () => {
      for (const [app, before] of [
        ["caller", caller],
        ["callee", callee],
      ] as const) {
        const now = await podOf(app);
        assert.equal(now.metadata.uid, before.metadata.uid);
        assert.equal(now.status.containerStatuses?.[0]?.restartCount, 0);
      }
      const marker = randomUUID();
      await using capture = await cluster().captureBridges("tcp");
      const url = `http://callee.${NAMESPACE}/`;
      await cluster().execDirectly(caller, ["/labbox", "marker", url, marker]);
      await until(() => capture.seenOn(marker).length === 3, { what: "the plaintext on all bridges" });
    });

    test("leaves no annotation and no condition of ours on any pod", async () => {
      const pods = await cluster().get<{ items: PodObject[] }>("/api/v1/pods");
      const left = (pods?.items ?? []).flatMap(({ metadata, status }) => [
        ...Object.keys(metadata.annotations ?? {}).filter((key) => OUR_ANNOTATIONS.test(key)),
        ...(status.conditions ?? []).map(({ type }) => type).filter((type) => OUR_ANNOTATIONS.test(type)),
      ]);
      assert.deepEqual(left, []);
    });

    for (const node of NODES) {
      test(`leaves no rule, route, file or process on node n${node}`, async () => {
        assert.equal((await onNode(node, rulesets)).trim(), "");
        assert.equal((await onNode(node, policyRouting)).trim(), "");
        const files = "find /opt/cni/bin /etc/cni/net.d /run/istio-cni /run/ztunnel -type f -o -type s -o -type l";
        assert.doesNotMatch(await onNode(node, files), /istio|tulle|ztunnel|pluginevent/);
        assert.equal(await onNode(node, "cat /etc/cni/net.d/*.conflist"), originals.get(node));
        assert.equal((await onNode(node, processes)).trim(), "");
      });
    }

    test("leaves nothing of the mesh in the API but schemas and what users wrote", async () => {
      const all = await cluster().kubectl(["get", "all,cm,secret,sa", "-n", MESH_NAMESPACE, "-o", "name"]);
      // What Kubernetes puts into every namespace.
      const ours = all
        .split("\n")
        .filter((name) => !["", "configmap/kube-root-ca.crt", "serviceaccount/default"].includes(name));
      assert.deepEqual(ours, []);
      const labelled = ["get", CLUSTER_WIDE, "-l", "tulle.dev/installation", "-o", "name"];
      assert.equal((await cluster().kubectl(labelled)).trim(), "");
      const roots = await cluster().get<ObjectList>(
        `/api/v1/configmaps?fieldSelector=metadata.name=${ROOT_CERT_CONFIG_MAP}`,
      );
      assert.deepEqual(roots?.items, []);
      const path = `/apis/security.istio.io/v1/namespaces/${NAMESPACE}/authorizationpolicies/users-own`;
      assert.notEqual(await cluster().get(path), undefined);
    });

    test("new pods start without it, also in namespaces that are labelled", async () => {
      const [pod] = echo({ name: "newcomer", namespace: NAMESPACE, node: 1 }).slice(1, 2);
      await cluster().apply([...echo({ name: "newcomer", namespace: NAMESPACE, node: 1 }).slice(0, 1), pod ?? {}]);
      await cluster().rollout("deploy/newcomer", NAMESPACE);
      const newcomer = await podOf("newcomer");
      const answer = await cluster().execDirectly(newcomer, ["/labbox", "get", `http://callee.${NAMESPACE}/`]);
      assert.match(answer, /^200 .*"pod":"callee-/);
    });

    test("says afterwards that it is not installed, and what to do", async () => {
      for (const command of [["status"], ["uninstall", "-y"]]) {
        await assert.rejects(mesh().tulle(command), (error: CommandError) => {
          assert.match(error.stderr, /not installed/);
          return true;
        });
      }
    });
  });
}

/** Of the host all tables but Kubernetes' own, of the node's pods all there is. */
const rulesets =
  "nft list tables | grep -vE 'kube-proxy|ip6? (mangle|filter|nat)$'; " +
  "for n in /run/netns/*; do nsenter --net=$n nft list ruleset; done";
/** Rules and tables besides those that every namespace has. */
const policyRouting =
  "for n in /proc/1/ns/net /run/netns/*; do for f in -4 -6; do " +
  "nsenter --net=$n ip $f rule | grep -vE 'lookup (local|main|default)$'; " +
  "nsenter --net=$n ip $f route show table all | grep -E 'table [0-9]+'; done; done; true";
/** Our programs on the node; the brackets keep the search from finding itself. */
const processes = "grep -laE '[/]app/apps/|[/]opt/cni/bin/.?istio-cni' /proc/[0-9]*/cmdline; true";
