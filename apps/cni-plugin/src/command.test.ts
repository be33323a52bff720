import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { KUBECONFIG_NAME, type Outcome, runCommand } from "./command.ts";
import { createTestNode, type TestNode } from "./test-doubles.ts";

const PREVIOUS = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "cni0" }, { name: "eth0", sandbox: "/var/run/netns/x" }],
  ips: [
    { interface: 1, address: "10.244.1.5/24", gateway: "10.244.1.1" },
    { interface: 1, address: "fd00::5/64" },
  ],
  dns: { search: ["example"] },
};
const NAMESPACE_PATH = "/api/v1/namespaces/shop";
const POD_PATH = `${NAMESPACE_PATH}/pods/web-1`;
/** Long enough for a loaded machine, short enough to wait for. */
const SHORT = { connectMs: 1000, answerMs: 300 };

interface Call {
  readonly command?: string;
  readonly namespace?: string;
  readonly args?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly input?: string;
}

function call(
  node: Pick<TestNode, "runDir">,
  { command = "ADD", namespace = "shop", args, environment, config, input }: Call = {},
) {
  const entry = {
    cniVersion: "1.0.0",
    name: "lab",
    type: "istio-cni",
    cni_agent_run_dir: node.runDir,
    pod_namespace: "istio-system",
    exclude_namespaces: ["kube-system"],
    prevResult: PREVIOUS,
    ...config,
  };
  return runCommand({
    environment: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: "c1",
      CNI_NETNS: "/var/run/netns/x",
      CNI_IFNAME: "eth0",
      CNI_ARGS:
        args ?? `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c1`,
      ...environment,
    },
    input: input ?? JSON.stringify(entry),
    agentTimeouts: SHORT,
    apiTimeoutMs: 1000,
  });
}

function passes({ output, exitCode }: Outcome): void {
  assert.equal(exitCode, 0, output);
  assert.deepEqual(JSON.parse(output), PREVIOUS);
}

function fails({ output, exitCode }: Outcome, code: number, message: RegExp): void {
  assert.equal(exitCode, 1);
  const error = JSON.parse(output) as { cniVersion: string; code: number; msg: string; details: string };
  assert.equal(error.code, code, output);
  assert.match(error.msg, message);
  assert.notEqual(error.details, "");
  assert.notEqual(error.cniVersion, "");
}

function pod(labels: Readonly<Record<string, string>> = {}, more: object = {}) {
  return { kind: "Pod", metadata: { labels }, ...more };
}

function namespace(labels: Readonly<Record<string, string>> = {}) {
  return { kind: "Namespace", metadata: { labels } };
}

const AMBIENT = { "istio.io/dataplane-mode": "ambient" };
const NONE = { "istio.io/dataplane-mode": "none" };

describe("with an agent", () => {
  test("every pod is asked about, with its addresses as upstream's plugin sends them, and a yes hands the result on", async () => {
    await using node = createTestNode();
    await node.agent(200);
    passes(await call(node));
    assert.deepEqual(node.asked, [
      {
        Netns: "/var/run/netns/x",
        PodName: "web-1",
        PodNamespace: "shop",
        IPs: [
          { Interface: 1, Address: { IP: "10.244.1.5", Mask: "////AA==" }, Gateway: "10.244.1.1" },
          { Interface: 1, Address: { IP: "fd00::5", Mask: "//////////8AAAAAAAAAAA==" } },
        ],
      },
    ]);
  });

  for (const [what, changes] of [
    ["of no pod", { args: "IgnoreUnknown=1" }],
    ["of a pod of kube-system", { namespace: "kube-system" }],
    ["of a pod of the release namespace", { namespace: "istio-system" }],
    [
      "of a pod of a namespace that is excluded",
      { namespace: "storage", config: { exclude_namespaces: ["kube-system", "storage"] } },
    ],
  ] as const) {
    test(`a network ${what} passes without asking`, async () => {
      await using node = createTestNode();
      await node.agent(500);
      passes(await call(node, changes));
      assert.deepEqual(node.asked, []);
    });
  }

  for (const status of [400, 500, 404, 204]) {
    test(`the answer ${status} fails, with the agent's words`, async () => {
      await using node = createTestNode();
      await node.agent(status, status === 204 ? "" : "ztunnel is not connected");
      await node.api({ [POD_PATH]: pod(), [NAMESPACE_PATH]: namespace() });
      fails(await call(node), 100, status === 204 ? /status 204/ : /ztunnel is not connected/);
      assert.deepEqual(node.read, [], "the API has no say when the agent has spoken");
    });
  }

  for (const [what, behave] of [
    ["never answers", () => undefined],
    ["hangs up without an answer", (socket) => socket.end()],
    ["answers half", (socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")],
    ["speaks something else", (socket) => socket.end("SSH-2.0-x\r\n")],
    ["never stops talking", (socket) => socket.write(`HTTP/1.1 200 OK\r\n\r\n${"x".repeat(100_000)}`)],
  ] as readonly (readonly [string, Parameters<TestNode["rawAgent"]>[0]])[]) {
    test(`an agent that ${what} fails: it may have acted`, async () => {
      await using node = createTestNode();
      await node.rawAgent((socket) => {
        socket.on("error", () => undefined);
        socket.once("data", () => behave(socket));
      });
      await node.api({ [POD_PATH]: pod(), [NAMESPACE_PATH]: namespace() });
      fails(await call(node), 11, /node agent did not say/);
    });
  }

  test("twenty pods at a time", async () => {
    await using node = createTestNode();
    await node.agent(200);
    for (const outcome of await Promise.all(Array.from({ length: 20 }, () => call(node)))) passes(outcome);
    assert.equal(node.asked.length, 20);
  });
});

describe("without an agent", () => {
  for (const [socket, prepare] of [
    ["no socket", async () => undefined],
    ["a socket that nobody serves", (node: TestNode) => node.deadAgent()],
  ] as const) {
    for (const [what, objects, expected] of [
      ["a pod outside", { [POD_PATH]: pod(), [NAMESPACE_PATH]: namespace() }, "passes"],
      ["a pod whose namespace is in the mesh", { [POD_PATH]: pod(), [NAMESPACE_PATH]: namespace(AMBIENT) }, "fails"],
      ["a pod in the mesh", { [POD_PATH]: pod(AMBIENT), [NAMESPACE_PATH]: namespace() }, "fails"],
      ["a pod that opts out", { [POD_PATH]: pod(NONE), [NAMESPACE_PATH]: namespace(AMBIENT) }, "passes"],
      [
        "a pod with a sidecar",
        {
          [POD_PATH]: pod(AMBIENT, { metadata: { labels: AMBIENT, annotations: { "sidecar.istio.io/status": "{}" } } }),
          [NAMESPACE_PATH]: namespace(),
        },
        "passes",
      ],
      [
        "a pod in the host's network",
        { [POD_PATH]: pod(AMBIENT, { spec: { hostNetwork: true } }), [NAMESPACE_PATH]: namespace() },
        "passes",
      ],
      [
        "a pod that has ended",
        { [POD_PATH]: pod(AMBIENT, { status: { phase: "Succeeded" } }), [NAMESPACE_PATH]: namespace() },
        "passes",
      ],
      ["a pod that the API does not know", { [NAMESPACE_PATH]: namespace() }, "unknown"],
      ["a namespace that the API does not know", { [POD_PATH]: pod() }, "unknown"],
      ["an answer of another kind", { [POD_PATH]: { kind: "Status" }, [NAMESPACE_PATH]: namespace() }, "unknown"],
    ] as const) {
      test(`${socket}, ${what}: ${expected}`, async () => {
        await using node = createTestNode();
        await prepare(node);
        await node.api(objects);
        const outcome = await call(node);
        if (expected === "passes") passes(outcome);
        else
          fails(outcome, 11, expected === "fails" ? /belongs to the mesh and would start outside/ : /cannot be told/);
      });
    }
  }

  for (const [what, prepare] of [
    ["no kubeconfig", async () => undefined],
    ["an API server that is down", (node) => node.deadApi()],
    ["an API server that never answers", (node) => node.api({}, { silent: true })],
    [
      "a token that is no longer good",
      (node) => node.api({ [POD_PATH]: pod(), [NAMESPACE_PATH]: namespace() }, { token: "other" }),
    ],
    ["a kubeconfig that is damaged", async (node) => writeFileSync(join(node.runDir, KUBECONFIG_NAME), "{")],
    [
      "a kubeconfig without TLS",
      async (node) =>
        writeFileSync(
          join(node.runDir, KUBECONFIG_NAME),
          JSON.stringify({ clusters: [{ cluster: { server: "http://127.0.0.1:1" } }] }),
        ),
    ],
  ] as readonly (readonly [string, (node: TestNode) => Promise<void>])[]) {
    test(`${what}: the pod's membership is unknown, and it fails`, async () => {
      await using node = createTestNode();
      await prepare(node);
      fails(await call(node), 11, /cannot be told/);
    });
  }

  test("an API server whose certificate is of another CA is not believed", async () => {
    await using other = createTestNode();
    await other.api({ [POD_PATH]: pod(), [NAMESPACE_PATH]: namespace() });
    await using node = createTestNode();
    await node.deadApi();
    const own = kubeconfigOf(node.runDir);
    own.clusters[0].cluster.server = kubeconfigOf(other.runDir).clusters[0].cluster.server;
    writeFileSync(join(node.runDir, KUBECONFIG_NAME), JSON.stringify(own));
    fails(await call(node), 11, /certificate/);
    assert.deepEqual(other.read, []);
  });

  test("selectors of the configuration decide, and ones that are not understood refuse", async () => {
    await using node = createTestNode();
    await node.api({ [POD_PATH]: pod({ tier: "front" }), [NAMESPACE_PATH]: namespace() });
    const selecting = (operator: string) => ({
      enablement_selectors: [{ podSelector: { matchExpressions: [{ key: "tier", operator, values: ["front"] }] } }],
    });
    fails(await call(node, { config: selecting("In") }), 11, /belongs to the mesh/);
    passes(await call(node, { config: selecting("NotIn") }));
    fails(await call(node, { config: selecting("Exists") }), 11, /belongs to the mesh/);
    passes(await call(node, { config: selecting("DoesNotExist") }));
    fails(await call(node, { config: selecting("Like") }), 7, /enablement_selectors/);
  });
});

describe("calls that are not right", () => {
  for (const [what, changes, code, message] of [
    ["nothing on standard input", { input: "" }, 6, /no JSON/],
    ["half a configuration", { input: '{"cniVersion":"1.0.0","type":' }, 6, /no JSON/],
    ["a list on standard input", { input: "[]" }, 6, /no JSON object/],
    ["a version that is not known", { config: { cniVersion: "2.0.0" } }, 1, /2\.0\.0/],
    ["no version", { config: { cniVersion: undefined } }, 1, /0\.1\.0/],
    ["a result that is no object", { config: { prevResult: "x" } }, 7, /prevResult/],
    ["an address that is none", { config: { prevResult: { ips: [{ address: "10.0.0.1" }] } } }, 7, /10\.0\.0\.1/],
    ["a prefix that is too long", { config: { prevResult: { ips: [{ address: "10.0.0.1/33" }] } } }, 7, /10\.0\.0\.1/],
    ["a run folder that is no string", { config: { cni_agent_run_dir: 1 } }, 7, /cni_agent_run_dir/],
    [
      "excluded namespaces that are no list",
      { config: { exclude_namespaces: "kube-system" } },
      7,
      /exclude_namespaces/,
    ],
    ["a pod whose name is a path", { args: "K8S_POD_NAME=../x;K8S_POD_NAMESPACE=shop" }, 4, /K8S_POD_NAME/],
    ["no namespace file", { environment: { CNI_NETNS: "" } }, 4, /CNI_NETNS/],
    ["no container id", { environment: { CNI_CONTAINERID: "" } }, 4, /CNI_CONTAINERID/],
    ["no command", { command: "" }, 4, /CNI_COMMAND/],
    ["a command that is not known", { command: "FROB" }, 4, /FROB/],
  ] as readonly (readonly [string, Call, number, RegExp])[]) {
    test(`${what}: error ${code}`, async () => {
      await using node = createTestNode();
      await node.agent(200);
      fails(await call(node, changes), code, message);
      assert.deepEqual(node.asked, []);
    });
  }
});

describe("other commands", () => {
  for (const command of ["DEL", "CHECK", "GC", "STATUS"]) {
    test(`${command} does nothing and is well, with or without an agent`, async () => {
      await using node = createTestNode();
      assert.deepEqual(await call(node, { command }), { output: "", exitCode: 0 });
    });
  }

  test("VERSION names the versions", async () => {
    const { output, exitCode } = await call(
      { runDir: "/nowhere" },
      { command: "VERSION", input: '{"cniVersion":"1.1.0"}' },
    );
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(output), {
      cniVersion: "1.1.0",
      supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
  });

  test("first in the list, it hands on an empty result", async () => {
    await using node = createTestNode();
    await node.agent(200);
    const { output } = await call(node, { config: { prevResult: undefined } });
    assert.deepEqual(JSON.parse(output), { cniVersion: "1.0.0" });
  });
});

interface Kubeconfig {
  clusters: [{ cluster: { server: string } }];
}

function kubeconfigOf(runDir: string): Kubeconfig {
  return JSON.parse(readFileSync(join(runDir, KUBECONFIG_NAME), "utf8")) as Kubeconfig;
}
