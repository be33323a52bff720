import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { until } from "@tulle/lab";
import { ECHO_PORTS, echo, echoAnswer, nodeAddress, type PodObject, type TestCluster } from "../src/index.ts";

const NODE_PORT = 30080;

/** What the other suites stand on: Kubernetes itself, without a mesh. */
export function suite(cluster: () => TestCluster): void {
  describe("the cluster", () => {
    const application = echo({ name: "ground", replicas: 2, nodePort: NODE_PORT });
    /** One on each node. */
    let first: PodObject;
    let second: PodObject;

    before(async () => {
      await cluster().apply(application);
      await cluster().rollout("deploy/ground");
      const [a, b] = await cluster().pods("app=ground");
      assert.ok(a !== undefined && b !== undefined);
      first = a;
      second = b;
    });

    after(async () => {
      await cluster().delete(application);
    });

    /** Of a pod, IPv4 first. */
    const addresses = ({ status }: PodObject) => (status.podIPs ?? []).map(({ ip }) => ip);
    const url = (ip: string, path = "/", port: number = ECHO_PORTS.http) =>
      `http://${ip.includes(":") ? `[${ip}]` : ip}:${port}${path}`;

    test("has the version that it says, and two nodes with both families of addresses", async () => {
      const version = JSON.parse(await cluster().kubectl(["version", "-o", "json"]));
      assert.equal(version.serverVersion.gitVersion, "v1.36.3");
      assert.equal(version.clientVersion.gitVersion, "v1.36.3");
      const nodes = await cluster().get<{ items: NodeObject[] }>("/api/v1/nodes");
      assert.deepEqual(
        nodes?.items.map(({ metadata, status }) => [metadata.name, status.addresses.map(({ address }) => address)]),
        [1, 2].map((index) => [`n${index}`, [nodeAddress(index).v4, nodeAddress(index).v6, `n${index}`]]),
      );
    });

    test("spreads two pods over two nodes, each with an address of either family", () => {
      assert.notEqual(first.spec.nodeName, second.spec.nodeName);
      for (const pod of [first, second]) {
        const [v4, v6] = addresses(pod);
        assert.match(v4 ?? "", /^10\.244\./);
        assert.match(v6 ?? "", /^fd10:244:/);
      }
    });

    for (const [family, index] of [
      ["IPv4", 0],
      ["IPv6", 1],
    ] as const) {
      test(`lets pods reach each other across nodes and themselves by ${family}, with their own addresses`, async () => {
        for (const [from, to] of [
          [first, second],
          [second, first],
          [first, first],
        ] as const) {
          const ip = addresses(to)[index] ?? "";
          const output = await cluster().exec(from.metadata.name, ["/labbox", "get", url(ip, "/direct")]);
          const answer = echoAnswer(output);
          assert.equal(answer.pod, to.metadata.name);
          assert.equal(answer.node, to.spec.nodeName);
          assert.equal(answer.path, "/direct");
          // A pod that asks itself may do so from any of its addresses.
          const remote = new URL(`http://${answer.remote}`).hostname.replace(/^\[|\]$/g, "");
          if (from !== to) assert.equal(remote, addresses(from)[index]);
        }
      });

      test(`answers on the Service's ${family} address from every node`, async () => {
        const service = await cluster().get<{ spec: { clusterIPs: string[] } }>(
          "/api/v1/namespaces/default/services/ground",
        );
        const ip = service?.spec.clusterIPs[index] ?? "";
        for (const pod of [first, second]) {
          const answer = '"pod":"ground-';
          await cluster().waitForEndpoint({ from: pod.metadata.name, url: url(ip, "/", 80), answer });
        }
      });

      test(`answers on the node port of both nodes by ${family}`, async () => {
        for (const node of [1, 2]) {
          const { v4, v6 } = nodeAddress(node);
          const address = url(index === 0 ? v4 : v6, "/node-port", NODE_PORT);
          // From the control plane's network: no pod, no node.
          const said = await until(() => cluster().cluster.space.run(["curl", "-sSg", "-m", "2", address]), {
            what: address,
          });
          assert.equal(echoAnswer(said).path, "/node-port");
        }
      });

      test(`lets the outside of pods reach a pod by ${family}`, async () => {
        const address = url(addresses(first)[index] ?? "", "/from-outside");
        const said = await cluster().cluster.space.run(["curl", "-sSg", "-m", "5", address]);
        assert.equal(echoAnswer(said).pod, first.metadata.name);
      });
    }

    test("resolves names of services to both families, and nothing outside", async () => {
      const name = "ground.default.svc.cluster.local";
      await cluster().waitForEndpoint({ from: first.metadata.name, url: `http://${name}/by-name`, answer: "/by-name" });
      const found = (await cluster().exec(first.metadata.name, ["/labbox", "dns", name])).trim().split("\n");
      assert.deepEqual(new Set(found.map((ip) => ip.includes(":"))), new Set([false, true]));
      await assert.rejects(cluster().exec(first.metadata.name, ["/labbox", "dns", "example.com"]));
    });

    test("echoes TCP, and greets first where it is asked to", async () => {
      const marker = randomUUID();
      const [ip = ""] = addresses(second);
      const send = (port: number) =>
        cluster().exec(first.metadata.name, ["/labbox", "marker", `tcp://${ip}:${port}`, marker]);
      assert.equal((await send(ECHO_PORTS.tcp)).trim(), marker);
      assert.equal((await send(ECHO_PORTS.serverFirst)).trim(), `hello from ${second.metadata.name}\n${marker}`);
    });

    test("keeps logs, and tells kubelet's API who may ask", async () => {
      assert.match(await cluster().kubectl(["logs", first.metadata.name]), /\/direct/);
      await assert.rejects(cluster().nodeExec(1, ["curl", "-sSkf", "-m", "5", "https://10.89.0.11:10250/pods"]), /401/);
    });

    test("shows a privileged pod of the host what a node agent needs: PID 1, its network and boot id, and pods' namespaces as they come", async () => {
      await cluster().apply(agentLike());
      try {
        await cluster().rollout("ds/agent-like", "kube-system");
        const [agent] = await cluster().pods("app=agent-like", "kube-system");
        assert.ok(agent !== undefined);
        const node = Number(agent.spec.nodeName?.slice(1));
        // Made after the agent's mounts.
        await cluster().apply(echo({ name: "late", node }));
        await cluster().rollout("deploy/late");
        const names = (await cluster().nodeExec(node, ["ls", "/run/netns"])).trim().split("\n");
        const seen = await cluster().execDirectly(agent, ["/labbox", "namespaces", "/var/run/netns"]);
        assert.deepEqual(
          new Set(
            seen
              .trim()
              .split("\n")
              .map((line) => line.split(" ")[0]),
          ),
          new Set(names),
        );
        for (const line of seen.trim().split("\n")) assert.match(line, / nsfs$/);
        const init = await cluster().execDirectly(agent, ["/labbox", "readlink", "/proc/1/ns/net"]);
        assert.equal(init, await cluster().nodeExec(node, ["readlink", "/proc/self/ns/net"]));
        // The kernel's own boot id is the machine's; the node's is what its PID 1 sees, and what kubelet reports.
        const object = await cluster().get<NodeObject>(`/api/v1/nodes/n${node}`);
        for (const path of ["/proc/1/root/proc/sys/kernel/random/boot_id", "/host/boot_id"]) {
          const id = await cluster().execDirectly(agent, ["/labbox", "cat", path]);
          assert.equal(id.trim(), object?.status.nodeInfo.bootID, path);
        }
      } finally {
        await cluster().delete(agentLike());
        await cluster().delete(echo({ name: "late" }));
      }
    });
  });
}

interface NodeObject {
  readonly metadata: { readonly name: string };
  readonly status: {
    readonly addresses: readonly { readonly address: string }[];
    readonly nodeInfo: { readonly bootID: string };
  };
}

/** Mounts as a node agent has them. */
function agentLike(): object {
  const labels = { app: "agent-like" };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "agent-like", namespace: "kube-system" },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          hostPID: true,
          hostNetwork: true,
          terminationGracePeriodSeconds: 0,
          containers: [
            {
              name: "main",
              image: "lab.local/labbox:1",
              imagePullPolicy: "Never",
              args: ["sleep"],
              securityContext: { privileged: true },
              volumeMounts: [
                { name: "netns", mountPath: "/var/run/netns", mountPropagation: "HostToContainer" },
                { name: "boot-id", mountPath: "/host/boot_id", readOnly: true },
              ],
            },
          ],
          volumes: [
            { name: "netns", hostPath: { path: "/var/run/netns", type: "DirectoryOrCreate" } },
            { name: "boot-id", hostPath: { path: "/proc/sys/kernel/random/boot_id", type: "File" } },
          ],
        },
      },
    },
  };
}
