import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MeshError } from "@tulle/base";
import { type Config, readConfig } from "./config.ts";
import { dumpConfig, printConfig } from "./config-dump.ts";
import { dataSettings } from "./data-settings.ts";

type Env = Readonly<Record<string, string>>;

interface Machine {
  readonly files?: Readonly<Record<string, string>>;
  readonly cores?: number;
}

function read(env: Env, { files = {}, cores = 8 }: Machine = {}): Promise<Config> {
  return readConfig({ env, cores, readFile: (path) => files[path], exists: (path) => path in files });
}

async function problems(env: Env, machine?: Machine): Promise<string[]> {
  const error = await read(env, machine).then(
    () => assert.fail("the configuration was accepted"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof MeshError);
  assert.equal(error.code, "INVALID_CONFIG");
  return error.message
    .split("\n")
    .slice(1)
    .map((line) => line.replace(/^- /, ""));
}

describe("the configuration", () => {
  const cases: readonly [what: string, env: Env, pick: (config: Config) => unknown, expected: unknown][] = [
    ["proxy mode", {}, (c) => c.mode, "shared"],
    ["packet mark in shared mode", {}, (c) => c.packetMark, 1337],
    [
      "packet mark in dedicated mode",
      { PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "ns/pod/sa" },
      (c) => [c.packetMark, c.workload],
      [undefined, { namespace: "ns", name: "pod", serviceAccount: "sa" }],
    ],
    ["cluster", { CLUSTER_ID: "a", ISTIO_META_CLUSTER_ID: "b" }, (c) => c.clusterId, "b"],
    ["cluster without metadata", { CLUSTER_ID: "a" }, (c) => [c.clusterId, c.metadata], ["a", {}]],
    [
      "an empty variable counts as unset",
      { POOL_UNUSED_RELEASE_TIMEOUT: "", IPV6_ENABLED: "" },
      (c) => c.pool.unusedReleaseMs,
      300_000,
    ],
    [
      "durations",
      { POOL_UNUSED_RELEASE_TIMEOUT: "1m30s", SECRET_TTL: "3600" },
      (c) => [c.pool.unusedReleaseMs, c.secretTtlMs],
      [90_000, 3_600_000],
    ],
    ["xDS out of a cluster", {}, (c) => c.xds?.address, "https://localhost:15012"],
    [
      "xDS in a cluster",
      { KUBERNETES_SERVICE_HOST: "10.96.0.1" },
      (c) => [c.xds?.address, c.ca?.address],
      Array(2).fill("https://istiod.istio-system.svc:15012"),
    ],
    [
      "xDS without scheme",
      { XDS_ADDRESS: "istiod-1.istio-system.svc:15012" },
      (c) => c.xds?.address,
      "https://istiod-1.istio-system.svc:15012",
    ],
    ["no xDS, no CA", { XDS_ADDRESS: "", CA_ADDRESS: "" }, (c) => [c.xds, c.ca], [undefined, undefined]],
    [
      "discoveryAddress is for xDS only",
      { PROXY_CONFIG: "discoveryAddress: cp:1\nproxyMetadata: {}" },
      (c) => [c.xds?.address, c.ca?.address],
      ["https://cp:1", "https://localhost:15012"],
    ],
    [
      "roots that are missing stay a path",
      { XDS_ROOT_CA: "/later.pem" },
      (c) => c.xds?.roots,
      { kind: "file", path: "/later.pem" },
    ],
    ["roots in the variable", { CA_ROOT_CA: "-----BEGIN CERTIFICATE-----\n" }, (c) => c.ca?.roots.kind, "pem"],
    ["system roots", { CA_ROOT_CA: "SYSTEM" }, (c) => c.ca?.roots.kind, "system"],
    ["no token", {}, (c) => c.token, { kind: "none" }],
    ["an empty token", { AUTH_TOKEN: "" }, (c) => c.token, { kind: "literal", token: "" }],
    ["a literal token", { AUTH_TOKEN: "abc" }, (c) => c.token, { kind: "literal", token: "abc" }],
    [
      "headers",
      { XDS_HEADER_X_Tenant: "t 1", CA_HEADER_Foo: "b" },
      (c) => [c.xds?.headers, c.ca?.headers],
      [{ x_tenant: "t 1" }, { foo: "b" }],
    ],
    [
      "the node",
      {
        POD_NAME: "zt-1",
        POD_NAMESPACE: "istio-system",
        NODE_NAME: "n1",
        INSTANCE_IP: "10.0.0.9",
        ISTIO_META_FOO: "x",
        ISTIO_METAJSON_LABELS: '{"a":1}',
      },
      (c) => c.xds?.node,
      {
        id: "ztunnel~10.0.0.9~zt-1.istio-system~istio-system.svc.cluster.local",
        metadata: {
          NAME: "zt-1",
          NAMESPACE: "istio-system",
          INSTANCE_IPS: "10.0.0.9",
          NODE_NAME: "n1",
          FOO: "x",
          LABELS: { a: 1 },
        },
      },
    ],
    ["own identity needs all three", { POD_NAME: "zt-1", POD_NAMESPACE: "istio-system" }, (c) => c.self, undefined],
    [
      "own identity",
      { POD_NAME: "zt-1", POD_NAMESPACE: "istio-system", SERVICE_ACCOUNT: "ztunnel", TRUST_DOMAIN: "td" },
      (c) => c.self?.identity,
      { trustDomain: "td", namespace: "istio-system", serviceAccount: "ztunnel" },
    ],
    ["DNS", {}, (c) => c.dns?.address, { ip: undefined, port: 15053 }],
    ["DNS off", { ISTIO_META_DNS_CAPTURE: "false" }, (c) => c.dns, undefined],
    ["DNS on, however it is written", { ISTIO_META_DNS_CAPTURE: "True" }, (c) => c.dns !== undefined, true],
    ["DNS address", { ISTIO_META_DNS_PROXY_ADDR: "[::1]:53" }, (c) => c.dns?.address, { ip: "::1", port: 53 }],
    ["original source", { ENABLE_ORIG_SRC: "false" }, (c) => c.originalSource, false],
    ["keep-alive", {}, (c) => c.keepAlive, { idleSeconds: 180, intervalSeconds: 180, retries: 9 }],
    [
      "user timeout",
      { USER_TIMEOUT_ENABLED: "true", KEEPALIVE_TIME: "10s", KEEPALIVE_INTERVAL: "5s", KEEPALIVE_RETRIES: "2" },
      (c) => c.keepAlive?.userTimeoutMs,
      20_000,
    ],
    ["keep-alive off", { KEEPALIVE_ENABLED: "false" }, (c) => c.keepAlive, undefined],
    [
      "mesh ranges",
      { MESH_CIDRS: "10.0.0.0/8, fd00::/8," },
      (c) => c.meshCidrs.map((cidr) => [cidr.ip, cidr.bits]),
      [
        ["10.0.0.0", 8],
        ["fd00::", 8],
      ],
    ],
    ["limits", { TULLE_MAX_CONNECTIONS_PER_POD: "7" }, (c) => c.limits.connectionsPerPod, 7],
    [
      "files instead of a CA",
      { TULLE_CERTIFICATES_DIR: "/certs" },
      (c) => [c.ca, c.certificatesDirectory],
      [undefined, "/certs"],
    ],
    [
      "log",
      { RUST_LOG: "access=debug,warn", LOG_FORMAT: "json" },
      (c) => [c.logFilter.toString(), c.logFormat],
      ["hickory_server::server=off,access=debug,warn", "json"],
    ],
    [
      "a later feature that is switched off",
      { TLS12_ENABLED: "false", FAKE_CA: "false", XDS_ON_DEMAND: "false" },
      (c) => c.warnings,
      [],
    ],
    ["a variable of ours that does not exist", { TULLE_MAX_CONECTIONS: "1" }, (c) => c.warnings.length, 1],
    ["quantum-safe only", { COMPLIANCE_POLICY: "pqc" }, (c) => c.pqcOnly, true],
    ["Istio's version", { ISTIO_META_ISTIO_VERSION: "1.30.1" }, (c) => c.istioVersion, "1.30.1"],
  ];
  for (const [what, env, pick, expected] of cases) {
    it(`reads ${what}`, async () => assert.deepEqual(pick(await read(env)), expected));
  }

  it("reads files where it is told of them", async () => {
    const files = {
      "./var/run/secrets/tokens/istio-token": "t",
      "/root.pem": "-----BEGIN CERTIFICATE-----",
      "/proc/sys/net/ipv6/conf/lo/disable_ipv6": "0\n",
      "/etc/resolv.conf":
        "# c\nsearch a.svc b\nnameserver 10.0.0.10\nnameserver nonsense\nnameserver fd00::1\noptions ndots:5 timeout:99 attempts:0",
      "/etc/hosts": "127.0.0.1 localhost me # c\n::1 localhost\nbad x\n10.0.0.1 Me",
    };
    const config = await read({ XDS_ROOT_CA: "/root.pem" }, { files });
    assert.deepEqual(config.token, { kind: "file", path: "./var/run/secrets/tokens/istio-token" });
    assert.deepEqual(config.xds?.roots, { kind: "file", path: "/root.pem" });
    assert.equal(config.ipv6Loopback, true);
    assert.deepEqual(config.dns?.resolver, {
      nameservers: ["10.0.0.10", "fd00::1"],
      search: ["a.svc", "b"],
      ndots: 5,
      timeoutMs: 30_000,
      attempts: 1,
    });
    assert.deepEqual(
      [...(config.dns?.hosts ?? [])],
      [
        ["localhost", ["127.0.0.1", "::1"]],
        ["me", ["127.0.0.1", "10.0.0.1"]],
      ],
    );
  });

  it("takes PROXY_CONFIG over the mesh file", async () => {
    const files = {
      "./etc/istio/config/mesh":
        "accessLogFile: x\ndefaultConfig:\n  statsPort: 1\n  proxyAdminPort: 2\n  concurrency: 0\n  proxyMetadata: {A: a, DNS_CAPTURE: 'false'}",
    };
    const below = await read({}, { files });
    assert.deepEqual([below.statsPort, below.adminPort, below.threads, below.dns], [1, 2, 8, undefined]);
    const env = {
      PROXY_CONFIG: "statsPort: 3\nother: x\nproxyMetadata: {B: 1, DNS_CAPTURE: true}",
      ISTIO_META_B: "env",
    };
    const above = await read(env, { files });
    assert.deepEqual([above.statsPort, above.adminPort, above.dns !== undefined], [3, 2, true]);
    assert.deepEqual(above.metadata, { A: "a", B: "env", DNS_CAPTURE: "true" });
  });
});

describe("the number of data threads", () => {
  const cases: readonly [what: string, env: Env, cores: number, threads: number][] = [
    ["a quarter of the cores", {}, 32, 8],
    ["at least two", {}, 2, 2],
    ["at least the request", { ZTUNNEL_RESOURCE_CPU_REQUEST: "3500m" }, 4, 4],
    ["the limit", { ZTUNNEL_RESOURCE_CPU_LIMIT: "1500m" }, 32, 2],
    ["the limit, raised to the request", { ZTUNNEL_RESOURCE_CPU_LIMIT: "1", ZTUNNEL_RESOURCE_CPU_REQUEST: "2" }, 32, 2],
    ["a quarter of the other limit", { ZTUNNEL_CPU_LIMIT: "16" }, 64, 4],
    ["as told", { ZTUNNEL_WORKER_THREADS: "5" }, 2, 5],
    ["all", { ZTUNNEL_WORKER_THREADS: "0" }, 6, 6],
    ["half", { ZTUNNEL_WORKER_THREADS: "50%" }, 5, 3],
    ["half of the limit", { ZTUNNEL_WORKER_THREADS: "50%", ZTUNNEL_RESOURCE_CPU_LIMIT: "4" }, 32, 2],
    ["one at least", { ZTUNNEL_WORKER_THREADS: "1%" }, 2, 1],
    ["PROXY_CONFIG's concurrency", { PROXY_CONFIG: "concurrency: 3\nproxyMetadata: {}" }, 32, 3],
    [
      "the variable before PROXY_CONFIG",
      { PROXY_CONFIG: "concurrency: 3\nproxyMetadata: {}", ZTUNNEL_WORKER_THREADS: "1" },
      32,
      1,
    ],
  ];
  for (const [what, env, cores, threads] of cases) {
    it(`is ${what}`, async () => assert.equal((await read(env, { cores })).threads, threads));
  }
});

describe("a configuration that is wrong", () => {
  const cases: readonly [env: Env, problem: RegExp][] = [
    [{ PROXY_MODE: "sidecar" }, /^PROXY_MODE is "sidecar", but must be shared or dedicated$/],
    [{ PROXY_MODE: "dedicated" }, /^PROXY_MODE is dedicated, so PROXY_WORKLOAD_INFO must/],
    [{ PROXY_WORKLOAD_INFO: "a/b" }, /^PROXY_WORKLOAD_INFO is "a\/b"/],
    [{ IPV6_ENABLED: "yes" }, /^IPV6_ENABLED is "yes", but must be true or false$/],
    [{ CONNECTION_TERMINATION_DEADLINE: "soon" }, /^CONNECTION_TERMINATION_DEADLINE is "soon", but must be a duration/],
    [{ POOL_UNUSED_RELEASE_TIMEOUT: "-5s" }, /a duration/],
    [{ HTTP2_FRAME_SIZE: "100" }, /^HTTP2_FRAME_SIZE is "100", but must be a whole number from 16384 to 16777215$/],
    [{ XDS_ADDRESS: "http://istiod:15010" }, /^XDS_ADDRESS .* only https/],
    [{ CA_ADDRESS: "https://" }, /^CA_ADDRESS is "https:\/\/", but must be/],
    [{ LOCAL_XDS: "{}", LOCAL_XDS_PATH: "/x" }, /exclude each other/],
    [{ TULLE_CERTIFICATES_DIR: "/certs", CA_ADDRESS: "https://ca:1" }, /exclude each other/],
    [{ ENABLE_PROXY: "false", ISTIO_META_DNS_CAPTURE: "false" }, /nothing to do/],
    [{ ISTIO_META_DNS_PROXY_ADDR: "example.com:53" }, /^ISTIO_META_DNS_PROXY_ADDR is/],
    [{ ISTIO_METAJSON_X: "{" }, /^ISTIO_METAJSON_X is not JSON$/],
    [{ "XDS_HEADER_a b": "x" }, /cannot be the name of a header/],
    [{ CA_HEADER_X: "a\nb" }, /^CA_HEADER_X holds characters/],
    [{ PROXY_CONFIG: "concurrency: 1" }, /proxyMetadata/],
    [{ PROXY_CONFIG: "a: [" }, /^PROXY_CONFIG is not YAML/],
    [{ PROXY_CONFIG: "statsPort: 70000\nproxyMetadata: {}" }, /^statsPort in PROXY_CONFIG/],
    [{ ZTUNNEL_WORKER_THREADS: "many" }, /^ZTUNNEL_WORKER_THREADS/],
    [{ ZTUNNEL_WORKER_THREADS: "150%" }, /^ZTUNNEL_WORKER_THREADS/],
    [{ ZTUNNEL_CPU_LIMIT: "2Gi" }, /^ZTUNNEL_CPU_LIMIT/],
    [{ MESH_CIDRS: "10.0.0.0/33" }, /^MESH_CIDRS is "10.0.0.0\/33"/],
    [{ RUST_LOG: "loud" }, /^RUST_LOG: "loud"/],
    [{ LOG_FORMAT: "xml" }, /^LOG_FORMAT/],
    [{ KEEPALIVE_ENABLED: "false", USER_TIMEOUT_ENABLED: "true" }, /^USER_TIMEOUT_ENABLED/],
    [{ CRL_PATH: "/crl.pem" }, /^CRL_PATH is set, but this version/],
    [{ TLS12_ENABLED: "true" }, /^TLS12_ENABLED is set/],
    [{ UNSTABLE_ENABLE_SOCKS5: "true" }, /^UNSTABLE_ENABLE_SOCKS5 is set/],
    [{ XDS_ON_DEMAND: "true" }, /^XDS_ON_DEMAND and DNS capture exclude each other/],
    [{ FAKE_CA: "true" }, /^FAKE_CA is set/],
    [{ TULLE_MAX_BUFFERED_BYTES_PER_POD: "9999999999" }, /^TULLE_MAX_BUFFERED_BYTES_PER_POD/],
  ];
  for (const [env, problem] of cases) {
    it(`is refused: ${JSON.stringify(env)}`, async () => {
      const found = (await problems(env))[0] ?? "";
      assert.match(found, problem);
    });
  }

  it("is told about all at once", async () => {
    assert.equal((await problems({ PROXY_MODE: "x", IPV6_ENABLED: "y", CRL_PATH: "z" })).length, 3);
  });
});

describe("the dump of the configuration", () => {
  it("has ztunnel's keys and no secrets", async () => {
    const env = { AUTH_TOKEN: "hush", XDS_HEADER_KEY: "hush", LOCAL_XDS: "hush: 1", NODE_NAME: "n1" };
    const files = { "/proc/sys/net/ipv6/conf/lo/disable_ipv6": "0" };
    const text = JSON.stringify(dumpConfig(await read(env, { files }), "proxy ztunnel"));
    assert.equal(text.includes("hush"), false);
    const dump = JSON.parse(text);
    assert.deepEqual(dump.adminAddr, { Localhost: [true, 15000] });
    assert.deepEqual(dump.statsAddr, { SocketAddr: "[::]:15020" });
    assert.equal(dump.inboundAddr, "[::]:15008");
    assert.deepEqual(dump.caRootCert, { File: "./var/run/secrets/istio/root-cert.pem" });
    assert.deepEqual(dump.selfTerminationDeadline, { secs: 5, nanos: 0 });
    assert.deepEqual(dump.xdsHeaders, [["key", "[hidden]"]]);
    assert.equal(dump.localNode, "n1");
    assert.equal(dump.requireOriginalSource, null);
  });

  it("prints as tagged YAML", async () => {
    const text = printConfig(dumpConfig(await read({ IPV6_ENABLED: "false", XDS_ADDRESS: "" }), "proxy ztunnel"));
    for (const part of [
      "proxy: true\ndnsProxy: true\nwindowSize: 4194304\n",
      "\nadminAddr: !Localhost\n- false\n- 15000\nstatsAddr: !SocketAddr 0.0.0.0:15020\n",
      "\npoolUnusedReleaseTimeout:\n  secs: 300\n  nanos: 0\n",
      "\nnetwork: ''\n",
      "\ncaRootCert: !File ./var/run/secrets/istio/root-cert.pem\n",
      "\nxdsAddress: null\n",
      "\nproxyMetadata: {}\n",
      "\nproxyArgs: proxy ztunnel\n",
    ]) {
      assert.ok(text.includes(part), `${JSON.stringify(part)} is in\n${text}`);
    }
  });
});

describe("a data thread's settings", () => {
  it("follow from the configuration and can be sent", async () => {
    const settings = dataSettings(await read({ MESH_CIDRS: "10.0.0.0/8", NETWORK: "net1" }));
    assert.deepEqual(structuredClone(settings), settings);
    assert.deepEqual(settings.meshCidrs, ["10.0.0.0/8"]);
    assert.equal(settings.network, "net1");
    assert.equal(settings.dns?.searchDomains, undefined);
    const files = { "/etc/resolv.conf": "search a b" };
    const env = { PROXY_MODE: "dedicated", PROXY_WORKLOAD_INFO: "a/b/c" };
    assert.deepEqual(dataSettings(await read(env, { files })).dns?.searchDomains, ["a", "b"]);
  });
});
