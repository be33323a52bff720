import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS, type HeldConnection } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { type App, NAMESPACE } from "./scene.ts";

const POLICY = "shown";
const HOST = `captured.${NAMESPACE}.svc.cluster.local`;
const CONNECTION_COLUMNS = ["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"];
const LEVEL_LIMIT = { timeoutMs: 30_000, intervalMs: 300 };
/** The connection that is shown must not end because an echo takes long on a busy machine. */
const PATIENCE_MS = 30_000;

interface Workload {
  readonly name: string;
  readonly namespace: string;
  readonly workloadIps: readonly string[];
  readonly node: string;
  readonly protocol: string;
}

interface Service {
  readonly name: string;
  readonly hostname: string;
  readonly vips: readonly string[];
  readonly endpoints: Readonly<Record<string, unknown>>;
}

interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly scope: string;
  readonly action: string;
}

interface Certificate {
  readonly node: string;
  readonly identity: string;
  readonly state: string;
  readonly certChain: readonly { readonly serialNumber: string; readonly expirationTime: string }[];
  readonly rootCerts: readonly unknown[];
}

interface Connection {
  readonly src: string;
  readonly originalDst?: string | null;
  readonly actualDst: string;
  readonly protocol: string;
}

interface WorkloadConnections {
  readonly node: string;
  readonly info: { readonly name: string; readonly namespace: string };
  readonly connections: { readonly inbound: readonly Connection[]; readonly outbound: readonly Connection[] };
}

/** What people and tools read of live ztunnels by the command line. */
export function ztunnelConfigTests(apps: () => Applications): void {
  const zc = (...args: readonly string[]) => apps().mesh.tulle(["ztunnel-config", ...args]);
  const json = async <T>(...args: readonly string[]) => JSON.parse(await zc(...args, "-o", "json")) as readonly T[];
  const nameOf = (app: App) => apps().pod(app).metadata.name;

  describe("tulle ztunnel-config", () => {
    let held: HeldConnection | undefined;
    const policy = {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: POLICY, namespace: NAMESPACE },
      // Of a port where nobody listens: no other test feels it.
      spec: {
        selector: { matchLabels: { app: "local" } },
        action: "DENY",
        rules: [{ to: [{ operation: { ports: ["1"] } }] }],
      },
    };

    before(async () => {
      await apps().apply(policy);
      held = await apps().cluster.holdConnection(apps().reference("client"), {
        address: `${HOST}:${ECHO_PORTS.tcp}`,
        timeoutMs: PATIENCE_MS,
      });
    });

    after(async () => {
      await held?.[Symbol.asyncDispose]();
      await apps().delete(policy);
    });

    test("workload -o json is what both ztunnels know, and can be narrowed", async () => {
      const all = await json<Workload>("workload");
      const of = (app: App) => all.find(({ name }) => name === nameOf(app)) ?? assert.fail(`no ${app}`);
      for (const app of ["captured", "client", "uncaptured"] as const) {
        const { metadata, spec, status } = apps().pod(app);
        const { namespace, node, protocol, workloadIps } = of(app);
        assert.deepEqual([namespace, node], [metadata.namespace, spec.nodeName]);
        assert.deepEqual(new Set(workloadIps), new Set(status.podIPs?.map(({ ip }) => ip)));
        assert.equal(protocol, app === "uncaptured" ? "TCP" : "HBONE");
      }
      const some = await json<Workload>("workload", "--workload-namespace", NAMESPACE, "--workload-node", "n1");
      assert.ok(some.length > 0 && some.length < all.length);
      for (const { namespace, node } of some) assert.deepEqual([namespace, node], [NAMESPACE, "n1"]);
    });

    test("service -o json has addresses and endpoints", async () => {
      const all = await json<Service>("service", "--service-namespace", NAMESPACE);
      const { vips, hostname, endpoints } = all.find(({ name }) => name === "captured") ?? assert.fail();
      assert.equal(hostname, HOST);
      const addresses = await apps().clusterIPs("captured");
      assert.deepEqual(new Set(vips.map((vip) => vip.replace(/^[^/]*\//, ""))), new Set(addresses));
      assert.equal(Object.keys(endpoints).length, apps().pods("captured").length);
    });

    test("policy shows a live policy, for people and as data", async () => {
      const found = await until(
        async () => {
          const all = await json<Policy>("policy", "--policy-namespace", NAMESPACE);
          return all.find(({ name }) => name === POLICY);
        },
        { what: "ztunnels to know the policy" },
      );
      assert.deepEqual([found.namespace, found.action, found.scope], [NAMESPACE, "Deny", "WorkloadSelector"]);
      const text = await zc("policy", "--policy-namespace", NAMESPACE);
      const rows = rowsOf(text, ["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"]);
      assert.deepEqual(
        rows.filter(([, name]) => name === POLICY),
        [[NAMESPACE, POLICY, "Deny", "WorkloadSelector"]],
      );
    });

    test("certificate -o json has each identity where its pods run, with its chain", async () => {
      const all = await json<Certificate>("certificate");
      const identity = `spiffe://cluster.local/ns/${NAMESPACE}/sa/client`;
      const [mine, ...more] = all.filter((one) => one.identity === identity);
      assert.deepEqual([mine?.node, mine?.state, more.length], ["n1", "Available", 0]);
      const [leaf] = mine?.certChain ?? [];
      assert.match(leaf?.serialNumber ?? "", /^\d+$/);
      assert.ok(Date.parse(leaf?.expirationTime ?? "") > Date.now());
      assert.ok((mine?.rootCerts.length ?? 0) > 0);
    });

    test("connections shows a live connection at both of its ends, for people and as data", async () => {
      const { client, captured } = await until(
        async () => {
          const all = await json<WorkloadConnections>("connections", "--workload-namespace", NAMESPACE);
          const client = all.find(({ connections }) => connections.outbound.some(isHeld));
          const captured = all.find(({ connections }) => connections.inbound.some(isHeld));
          return client !== undefined && captured !== undefined && { client, captured };
        },
        { what: "the held connection to be shown at both of its ends" },
      );
      assert.deepEqual([client.info.name, client.node], [nameOf("client"), "n1"]);
      assert.ok(
        apps()
          .pods("captured")
          .some(({ metadata }) => metadata.name === captured.info.name),
      );
      const outbound = client.connections.outbound.filter(isHeld);
      const inbound = captured.connections.inbound.filter(isHeld);
      assert.deepEqual([outbound.length, inbound.length], [1, 1]);

      const rows = rowsOf(await zc("connections", "--workload-namespace", NAMESPACE), ["NODE", ...CONNECTION_COLUMNS]);
      const [here, there] = [client, captured].map(({ info }) => `${info.name}.${NAMESPACE}`);
      const port = ([connection]: readonly Connection[]) => connection?.src.replace(/^.*:/, "");
      const shown = rows.filter(([, , , , , target]) => target?.startsWith(HOST)).map((row) => row.join(" "));
      assert.deepEqual(
        new Set(shown),
        new Set([
          `${client.node} ${here} Outbound ${here}:${port(outbound)} ${there}:15008 ${HOST}:${ECHO_PORTS.tcp} HBONE`,
          // From where the tunnel comes, and by which name the client asked.
          `${captured.node} ${there} Inbound ${there}:${ECHO_PORTS.tcp} ${here}:${port(inbound)} ${HOST} HBONE`,
        ]),
      );
    });

    test("connections of one pod has the columns of one ztunnel, and addresses when they are asked for", async () => {
      const pod = `${nameOf("client")}.${NAMESPACE}`;
      const rows = rowsOf(await zc("connections", pod, "--direction", "outbound", "--raw"), CONNECTION_COLUMNS);
      const ips = apps()
        .pod("client")
        .status.podIPs?.map(({ ip }) => ip);
      const vips = await apps().clusterIPs("captured");
      const found = rows.filter(([, , , , target]) => vips.some((vip) => target === address(vip, ECHO_PORTS.tcp)));
      assert.equal(found.length, 1);
      for (const [workload, direction, local = "", remote = ""] of found) {
        assert.deepEqual([workload, direction], [pod, "Outbound"]);
        assert.ok(
          ips?.some((ip) => local.startsWith(address(ip, ""))),
          local,
        );
        assert.match(remote, /^[\d.]+:15008$|^\[[\da-f:]+\]:15008$/);
      }
    });

    test("log changes what one ztunnel logs while it runs, and puts it back", async () => {
      const { name } = (await apps().mesh.ztunnel(1)).metadata;
      const log = (...args: readonly string[]) => zc("log", ...args);
      const before = await log();
      assert.match(before, new RegExp(`^${name}\\.istio-system:\n`, "m"));
      const since = Date.now();
      const [ip] = apps().pod("client").status.podIPs ?? [];
      const ask = async (path: string) => {
        await apps().get("stranger", `http://${address(ip?.ip ?? "", ECHO_PORTS.http)}${path}`);
      };
      const logged = async () =>
        (await apps().mesh.accessLog(1, since)).filter((line) => line["src.workload"] === nameOf("stranger")).length;
      try {
        const said = await log("--node", "n1", "--level", "access:off");
        assert.match(said, new RegExp(`^${name}\\.istio-system:\n`));
        assert.notEqual(said, before);
        await ask("/unseen");
      } finally {
        await log("--node", "n1", "--reset");
      }
      assert.equal(await log(), before);
      await ask("/seen");
      await until(async () => (await logged()) > 0, { what: "the second request in the log", ...LEVEL_LIMIT });
      assert.equal(await logged(), 1);
    });

    test("connections no longer shows a connection that is closed", async () => {
      await held?.stop();
      await until(
        async () => {
          const all = await json<WorkloadConnections>("connections", "--workload-namespace", NAMESPACE);
          const open = all.flatMap(({ connections }) => [...connections.inbound, ...connections.outbound]);
          return !open.some(isHeld);
        },
        { what: "the connection to be gone" },
      );
    });
  });
}

/** Nobody else holds one to this port. */
function isHeld({ originalDst, actualDst }: Connection): boolean {
  return [originalDst, actualDst].some((target) => target?.endsWith(`:${ECHO_PORTS.tcp}`));
}

function address(ip: string, port: number | ""): string {
  return `${ip.includes(":") ? `[${ip}]` : ip}:${port}`;
}

/** The rows' cells of an aligned table that has these columns: each begins where its title does. */
function rowsOf(text: string, columns: readonly string[]): string[][] {
  const [head = "", ...lines] = text.trimEnd().split("\n");
  assert.equal(head.replaceAll(/ +/g, " "), columns.join(" "));
  let from = 0;
  const starts = columns.map((title) => {
    const start = head.indexOf(title, from);
    from = start + title.length;
    return start;
  });
  return lines.map((line) => starts.map((start, column) => line.slice(start, starts[column + 1]).trim()));
}
