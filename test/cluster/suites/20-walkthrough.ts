import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ROOT_CERT_CONFIG_MAP } from "@tulle/base";
import { until } from "@tulle/lab";
import {
  BOOKINFO_DEPLOYMENTS,
  bookinfo,
  configDumpFaults,
  echo,
  ENROL,
  isCaptured,
  MESH_NAMESPACE,
  Mesh,
  type PodObject,
  type TestCluster,
} from "../src/index.ts";

/** Names by which tools and people find the parts: each with its labels, containers and ports. */
const NAMES = [
  {
    path: `apps/v1/namespaces/${MESH_NAMESPACE}/deployments/istiod`,
    labels: { app: "istiod", istio: "pilot" },
    container: "discovery",
    ports: [8080, 15012, 15014],
  },
  {
    path: `apps/v1/namespaces/${MESH_NAMESPACE}/daemonsets/ztunnel`,
    labels: { app: "ztunnel", "istio.io/dataplane-mode": "none" },
    container: "istio-proxy",
    ports: [15020, 15021],
  },
  {
    path: `apps/v1/namespaces/${MESH_NAMESPACE}/daemonsets/istio-cni-node`,
    labels: { "k8s-app": "istio-cni-node", "istio.io/dataplane-mode": "none" },
    container: "install-cni",
    ports: [8000, 15014],
  },
] as const;

/** Status and parts of the product page: of a service that did not answer there is only a word about that. */
const WHOLE_PAGE = /^200 (?=[^]*The Tempest)(?=[^]*ISBN)(?=[^]*reviews-v)/;
const DIRECTIONS = ["outbound", "inbound"] as const;

interface WorkloadObject {
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: {
        readonly containers: readonly {
          readonly name: string;
          readonly ports: readonly { readonly containerPort: number }[];
        }[];
      };
    };
  };
}

interface ConfigMapObject {
  readonly data: Readonly<Record<string, string>>;
}

interface Dump {
  readonly workloads: readonly { readonly name: string; readonly namespace: string; readonly protocol: string }[];
  readonly workloadState: Readonly<
    Record<string, { readonly state: string; readonly info: { readonly name: string } }>
  >;
}

/** What every user of an ambient mesh does first, with stock kubectl. */
export function suite(cluster: () => TestCluster): void {
  describe("the walk-through", () => {
    const application = bookinfo("default");
    /** Asks as a pod of the mesh: Bookinfo's image has no client. */
    const client = echo({ name: "visitor", node: 1 });
    const mesh = () => new Mesh(cluster());
    let enrolledAt = 0;

    const bookinfoPods = async () => {
      const pods = await cluster().pods("app in (productpage,details,reviews,ratings)");
      assert.equal(pods.length, BOOKINFO_DEPLOYMENTS.length);
      return pods;
    };
    const visitor = async () => {
      const [pod] = await cluster().pods("app=visitor");
      assert.ok(pod !== undefined);
      return pod;
    };
    /** What must be the same after enrolment. */
    const identityOf = ({ metadata, status }: PodObject) => [
      metadata.name,
      metadata.uid,
      ...(status.containerStatuses ?? []).flatMap(({ containerID, restartCount }) => [containerID, restartCount]),
    ];

    before(async () => {
      await mesh().install();
    });

    after(async () => {
      await cluster().kubectl(["label", "namespace", "default", "istio.io/dataplane-mode-"]);
      await Promise.all([cluster().delete(application), cluster().delete(client)]);
    });

    for (const { path, labels, container, ports } of NAMES) {
      test(`finds ${path.split("/").at(-1)} by the names that tools rely on`, async () => {
        const object = await cluster().get<WorkloadObject>(`/apis/${path}`);
        const { metadata, spec } = object?.spec.template ?? assert.fail(`there is no ${path}`);
        for (const [key, value] of Object.entries(labels)) assert.equal(metadata.labels[key], value, key);
        const found = spec.containers.find(({ name }) => name === container);
        assert.deepEqual(
          found?.ports.map(({ containerPort }) => containerPort).toSorted((a, b) => a - b),
          ports,
        );
      });
    }

    test("finds the Service, the configuration and the roots by their names", async () => {
      const core = `/api/v1/namespaces/${MESH_NAMESPACE}`;
      const service = await cluster().get<{ spec: { ports: { name: string; port: number }[]; selector: object } }>(
        `${core}/services/istiod`,
      );
      assert.deepEqual(service?.spec.selector, { app: "istiod", istio: "pilot" });
      assert.deepEqual(Object.fromEntries(service.spec.ports.map(({ name, port }) => [name, port])), {
        "https-dns": 15012,
        "http-monitoring": 15014,
      });
      const config = await cluster().get<ConfigMapObject>(`${core}/configmaps/istio`);
      assert.match(config?.data.mesh ?? "", /trustDomain|rootNamespace|defaultConfig/);
      for (const namespace of [MESH_NAMESPACE, "default", "kube-system"]) {
        const path = `/api/v1/namespaces/${namespace}/configmaps/${ROOT_CERT_CONFIG_MAP}`;
        const roots = await cluster().get<ConfigMapObject>(path);
        assert.match(roots?.data["root-cert.pem"] ?? "", /^-----BEGIN CERTIFICATE-----/, namespace);
      }
    });

    test("meshes Bookinfo by the label of its namespace, and no pod restarts", async () => {
      await Promise.all([cluster().apply(application), cluster().apply(client)]);
      await Promise.all(BOOKINFO_DEPLOYMENTS.map((name) => cluster().rollout(`deploy/${name}`)));
      await cluster().rollout("deploy/visitor");
      const before = await bookinfoPods();
      for (const pod of before) assert.equal(isCaptured(pod), false, `${pod.metadata.name} before the label`);

      enrolledAt = Date.now();
      await cluster().kubectl(["label", "namespace", "default", ENROL]);
      const names = [...before, await visitor()].map(({ metadata }) => metadata.name);
      await Promise.all(names.map((name) => mesh().waitForCaptured(name)));
      const after = await bookinfoPods();
      assert.deepEqual(after.map(identityOf), before.map(identityOf));
      for (const pod of after) {
        assert.equal(pod.metadata.annotations?.["ambient.istio.io/redirection"], "enabled");
        for (const { restartCount } of pod.status.containerStatuses ?? []) assert.equal(restartCount, 0);
      }
    });

    test("answers on the product page, over mutual TLS between the nodes and never in the clear", async () => {
      await using capture = await cluster().captureBridges("tcp");
      const { metadata } = await visitor();
      const url = "http://productpage:9080/productpage?marker=walkthrough-in-the-clear";
      await cluster().waitForEndpoint({ from: metadata.name, url, answer: WHOLE_PAGE });
      await until(() => (capture.payloads().nodes ?? 0) > 0, { what: "packets between the nodes" });
      await capture.stop();
      assert.deepEqual(capture.seenOn("walkthrough-in-the-clear"), []);
    });

    test("shows ztunnel's pods by their label, one a node", async () => {
      const said = await cluster().kubectl(["get", "pods", "-n", MESH_NAMESPACE, "-l", "app=ztunnel", "-o", "wide"]);
      const [head = "", ...lines] = said.trim().split("\n");
      assert.match(head, /^NAME +READY +STATUS/);
      assert.equal(lines.length, 2);
      for (const line of lines) assert.match(line, /^ztunnel-\w+ +1\/1 +Running +0 /);
    });

    test("shows by curl in ztunnel's pod what it knows, key by key as tools read it", async () => {
      const { uid } = (await visitor()).metadata;
      const dumps = await Promise.all([1, 2].map((node) => mesh().configDump<Dump>(node)));
      for (const dump of dumps) assert.deepEqual(configDumpFaults(dump), []);
      for (const { workloads } of dumps) {
        // Beside them the API server, the endpoint of a Service without a pod.
        const pods = workloads.filter(({ namespace, name }) => namespace === "default" && name !== "kubernetes");
        assert.equal(pods.length, BOOKINFO_DEPLOYMENTS.length + 1);
        for (const { name, protocol } of pods) assert.equal(protocol, "HBONE", name);
      }
      // A ztunnel serves the pods of its node only.
      const [here, there] = dumps.map(({ workloadState }) => workloadState[uid]?.state);
      assert.deepEqual([here, there], ["Up", undefined]);
    });

    test("logs who spoke to whom, with both identities, on both sides", async () => {
      const mine = await until(
        async () => {
          const lines = [...(await mesh().accessLog(1, enrolledAt)), ...(await mesh().accessLog(2, enrolledAt))];
          // Beside them there may be those of questions that the visitor gave up on a busy machine.
          const found = lines.filter(
            (line) =>
              line["src.workload"]?.startsWith("visitor-") &&
              line["dst.service"] !== undefined &&
              line.error === undefined,
          );
          return DIRECTIONS.every((direction) => found.some((line) => line.direction === direction)) && found;
        },
        { what: "the visitor's access log lines", timeoutMs: 30_000, intervalMs: 500 },
      );
      for (const direction of DIRECTIONS) {
        const line = mine.find((one) => one.direction === direction);
        assert.ok(line !== undefined, direction);
        assert.equal(line.message, "connection complete");
        assert.equal(line.level, "info");
        assert.equal(line["src.namespace"], "default");
        assert.equal(line["src.identity"], "spiffe://cluster.local/ns/default/sa/visitor");
        assert.equal(line["dst.service"], "productpage.default.svc.cluster.local");
        assert.equal(line["dst.identity"], "spiffe://cluster.local/ns/default/sa/bookinfo-productpage");
        assert.match(line["dst.addr"] ?? "", /:15008$/);
        assert.match(line["dst.hbone_addr"] ?? "", /:9080$/);
        assert.match(line.bytes_sent ?? "", /^\d+$/);
        assert.match(line.duration ?? "", /^\d+ms$/);
      }
    });

    test("lists workloads, services, certificates and connections of all nodes with one command", async () => {
      const all = await mesh().tulle(["ztunnel-config", "all"]);
      for (const columns of [
        /NAMESPACE +POD NAME +ADDRESS +NODE +WAYPOINT +PROTOCOL/,
        /NAMESPACE +SERVICE NAME +SERVICE VIP +WAYPOINT +ENDPOINTS/,
        /CERTIFICATE NAME +TYPE +STATUS +VALID CERT +SERIAL NUMBER +NOT AFTER +NOT BEFORE/,
      ]) {
        assert.match(all, columns);
      }
      assert.match(all, /default +productpage-v1-\S+ +10\.244\.\d\.\d+,fd10:\S+ +n\d +None +HBONE/);
      assert.match(all, /default +reviews +10\.96\.\d+\.\d+\S* +None +3\/3/);
      assert.match(all, /spiffe:\/\/cluster\.local\/ns\/default\/sa\/bookinfo-productpage +Leaf +Available +true/);
    });

    test("finds nothing wrong by status and check, and explains a connection", async () => {
      const status = await mesh().tulle(["status"]);
      assert.match(status, /istiod: 1 of 1 ready[^]*istio-cni-node: 2 of 2 ready[^]*ztunnel: 2 of 2 ready/);
      const pods = BOOKINFO_DEPLOYMENTS.length + 1;
      assert.match(status, new RegExp(`default +${pods} +${pods}\\n`));
      const check = await mesh().tulle(["check"]);
      assert.doesNotMatch(check, /✘/);
      const { metadata } = await visitor();
      const why = await mesh().tulle(["explain", "from", `default/${metadata.name}`, "to", "productpage:9080"]);
      assert.match(why, /the connection is encrypted and allowed/);
    });
  });
}
