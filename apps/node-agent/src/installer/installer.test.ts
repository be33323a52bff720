import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { type Log, silentLog, sleep } from "@tulle/base";
import { DEFAULT_ENABLEMENT } from "@tulle/base/enrolment";
import type { InstallerConfig } from "./config.ts";
import { type Installer, startInstaller } from "./installer.ts";
import type { PluginFiles } from "./plugin-files.ts";

const PRIMARY = `{"cniVersion":"1.0.0",   "name":"lab","plugins":[
  {"type":"bridge","bridge":"cni0"}, {"type":"portmap","capabilities":{"portMappings":true}}]}`;
/** A condition that takes longer will not come true. */
const PATIENCE_MS = 30_000;

const installers: Installer[] = [];
const folders: string[] = [];

afterEach(async () => {
  for (const installer of installers.splice(0)) await installer.stop({ keep: true });
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A node's folders in a temporary one; the plugin is a text, what matters here is where it goes. */
function node(options: { readonly conf?: Readonly<Record<string, string>> } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "tulle-installer-"));
  folders.push(folder);
  const config: InstallerConfig = {
    binDir: join(folder, "bin"),
    hostBinDir: "/opt/cni/bin",
    confDir: join(folder, "net.d"),
    confName: undefined,
    runDir: join(folder, "run"),
    kubeconfigMode: 0o600,
    pluginFolder: join(folder, "image"),
    serviceAccountDir: join(folder, "account"),
    apiServer: "https://10.96.0.1:443",
    releaseNamespace: "istio-system",
    excludedNamespaces: ["kube-system"],
    enablement: DEFAULT_ENABLEMENT,
  };
  for (const dir of [config.binDir, config.confDir, config.runDir, config.pluginFolder, config.serviceAccountDir])
    mkdirSync(dir);
  for (const [name, text] of Object.entries(options.conf ?? {})) writeFileSync(join(config.confDir, name), text);
  writeFileSync(join(config.serviceAccountDir, "token"), "token-1\n");
  writeFileSync(join(config.serviceAccountDir, "ca.crt"), "CA");
  const script = join(config.binDir, "istio-cni");
  const plugin: PluginFiles = {
    async install() {
      if (existsSync(script)) return false;
      writeFileSync(script, "plugin");
      return true;
    },
    removeFormer: async () => undefined,
    async remove() {
      rmSync(script, { force: true });
    },
  };
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (message) => warnings.push(message) };
  const start = (parts: { readonly plugin?: PluginFiles } = {}) => {
    const installer = startInstaller({ config, log, plugin, ...parts });
    installers.push(installer);
    return installer;
  };
  return {
    config,
    warnings,
    start,
    conf: (name: string) => join(config.confDir, name),
    types: (name: string) => typesIn(join(config.confDir, name)),
    kubeconfig: join(config.runDir, "istio-cni-kubeconfig"),
    script,
  };
}

function typesIn(file: string): string[] {
  const { plugins } = JSON.parse(readFileSync(file, "utf8")) as { plugins: { type: string }[] };
  return plugins.map(({ type }) => type);
}

async function until(what: string, condition: () => boolean): Promise<number> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > PATIENCE_MS) assert.fail(`not within ${PATIENCE_MS} ms: ${what}`);
    await sleep(5);
  }
  return performance.now() - start;
}

test("the entry goes to the end of the first valid configuration, which keeps its mode", async () => {
  const n = node({
    conf: {
      "00-broken.conflist": '{"name":',
      "05-empty.conflist": '{"name":"x","plugins":[]}',
      "10-lab.conflist": PRIMARY,
      "20-other.conflist": PRIMARY,
    },
  });
  const { mode } = statSync(n.conf("10-lab.conflist"));
  await n.start().whenReady();
  assert.deepEqual(n.types("10-lab.conflist"), ["bridge", "portmap", "istio-cni"]);
  assert.deepEqual(n.types("20-other.conflist"), ["bridge", "portmap"]);
  assert.equal(statSync(n.conf("10-lab.conflist")).mode, mode);
});

test("the entry has the fields of upstream's", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  await n.start().whenReady();
  const mode = "istio.io/dataplane-mode";
  const recorded = {
    ambient_enabled: true,
    cni_agent_run_dir: n.config.runDir,
    dns: {},
    enable_ambient_detection_retry: false,
    enablement_selectors: [
      { namespaceSelector: {}, podSelector: { matchLabels: { [mode]: "ambient" } } },
      {
        namespaceSelector: { matchLabels: { [mode]: "ambient" } },
        podSelector: { matchExpressions: [{ key: mode, operator: "NotIn", values: ["none"] }] },
      },
    ],
    exclude_namespaces: ["kube-system"],
    ipam: {},
    name: "istio-cni",
    native_nftables: true,
    plugin_log_level: "info",
    pod_namespace: "istio-system",
    type: "istio-cni",
  };
  const { plugins } = JSON.parse(readFileSync(n.conf("10-lab.conflist"), "utf8")) as { plugins: object[] };
  assert.deepEqual(plugins.at(-1), recorded);
});

test("a single plugin's configuration becomes a list under its own name, and single again", async () => {
  const single = '{ "cniVersion": "0.4.0", "name": "mynet", "type": "ptp" }';
  const n = node({ conf: { "10-ptp.conf": single } });
  const installer = n.start();
  await installer.whenReady();
  const list = JSON.parse(readFileSync(n.conf("10-ptp.conflist"), "utf8")) as { name: string; cniVersion: string };
  assert.deepEqual([list.name, list.cniVersion, n.types("10-ptp.conflist")], ["mynet", "0.4.0", ["ptp", "istio-cni"]]);
  assert.equal(existsSync(n.conf("10-ptp.conf")), false);

  await installer.stop({ keep: false });
  assert.deepEqual(readdirSync(n.config.confDir), ["10-ptp.conf"]);
  assert.equal(readFileSync(n.conf("10-ptp.conf"), "utf8"), single);
});

test("it waits for a primary configuration and says so", async () => {
  const n = node();
  const installer = n.start();
  await until("it says that it waits", () => installer.problem?.includes("no primary") === true);
  assert.equal(installer.ready, false);
  writeFileSync(n.conf("10-lab.conflist"), PRIMARY);
  await installer.whenReady();
  assert.equal(installer.ready, true);
});

for (const [what, undo, isBack] of [
  [
    "the entry is taken out",
    (n) => writeFileSync(n.conf("10-lab.conflist"), PRIMARY),
    (n) => n.types("10-lab.conflist").includes("istio-cni"),
  ],
  [
    "the configuration is replaced by rename",
    (n) => {
      writeFileSync(n.conf("new"), PRIMARY);
      renameSync(n.conf("new"), n.conf("10-lab.conflist"));
    },
    (n) => n.types("10-lab.conflist").includes("istio-cni"),
  ],
  [
    "another configuration comes first",
    (n) => writeFileSync(n.conf("00-first.conflist"), PRIMARY),
    (n) => n.types("00-first.conflist").includes("istio-cni"),
  ],
  ["the plugin is deleted", (n) => rmSync(n.script), (n) => existsSync(n.script)],
  ["the kubeconfig is deleted", (n) => rmSync(n.kubeconfig), (n) => existsSync(n.kubeconfig)],
  [
    "the token rotates",
    (n) => writeFileSync(join(n.config.serviceAccountDir, "token"), "token-2"),
    (n) => readFileSync(n.kubeconfig, "utf8").includes("token-2"),
  ],
] as readonly (readonly [string, (n: ReturnType<typeof node>) => void, (n: ReturnType<typeof node>) => boolean])[]) {
  test(`repaired within a second or so: ${what}`, async () => {
    const n = node({ conf: { "10-lab.conflist": PRIMARY } });
    await n.start().whenReady();
    undo(n);
    // One second between passes, and a machine with other work; the look at everything comes after ten.
    assert.ok((await until(what, () => isBack(n))) < 8000);
  });
}

test("a folder that is removed and made anew is watched again", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  await n.start().whenReady();
  rmSync(n.config.confDir, { recursive: true });
  mkdirSync(n.config.confDir);
  writeFileSync(n.conf("10-lab.conflist"), PRIMARY);
  await until("the entry is there", () => n.types("10-lab.conflist").includes("istio-cni"));
});

test("a kubeconfig that only root can read, with the account's token", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  await n.start().whenReady();
  assert.equal(statSync(n.kubeconfig).mode & 0o777, 0o600);
  const { users, clusters } = JSON.parse(readFileSync(n.kubeconfig, "utf8")) as {
    users: { user: object }[];
    clusters: { cluster: object }[];
  };
  assert.deepEqual(users[0]?.user, { token: "token-1" });
  assert.deepEqual(clusters[0]?.cluster, { server: "https://10.96.0.1:443", "certificate-authority-data": "Q0E=" });
});

test("somebody who undoes it again and again is named in a warning, and repairs stay a second apart", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  const installer = n.start();
  await installer.whenReady();
  const start = performance.now();
  const fighter = setInterval(() => writeFileSync(n.conf("10-lab.conflist"), PRIMARY), 10);
  await until("a warning", () => n.warnings.some((warning) => warning.includes("undoes it")));
  clearInterval(fighter);
  const seconds = (performance.now() - start) / 1000;
  assert.ok(installer.counts.SUCCESS <= 2 + seconds, `${installer.counts.SUCCESS} repairs in ${seconds} s`);
});

test("stopped for good, it leaves the folders as they were, byte for byte", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  const installer = n.start();
  await installer.whenReady();
  await installer.stop({ keep: false });
  assert.equal(readFileSync(n.conf("10-lab.conflist"), "utf8"), PRIMARY);
  assert.deepEqual(
    [readdirSync(n.config.confDir), readdirSync(n.config.binDir), readdirSync(n.config.runDir)],
    [["10-lab.conflist"], [], []],
  );
  assert.equal(installer.ready, false);
});

test("what others changed meanwhile stays when the entry goes", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  const installer = n.start();
  await installer.whenReady();
  const changed = JSON.parse(readFileSync(n.conf("10-lab.conflist"), "utf8")) as { plugins: object[] };
  changed.plugins.unshift({ type: "tuning" });
  writeFileSync(n.conf("10-lab.conflist"), JSON.stringify(changed));
  await installer.stop({ keep: false });
  assert.deepEqual(n.types("10-lab.conflist"), ["tuning", "bridge", "portmap"]);
});

test("an agent that follows finds everything, changes nothing, and can still restore the original", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  const first = n.start();
  await first.whenReady();
  await first.stop({ keep: true });
  assert.ok(existsSync(n.script) && existsSync(n.kubeconfig));
  const before = statSync(n.conf("10-lab.conflist")).mtimeMs;
  const second = n.start();
  await second.whenReady();
  assert.equal(statSync(n.conf("10-lab.conflist")).mtimeMs, before);
  await second.stop({ keep: false });
  assert.equal(readFileSync(n.conf("10-lab.conflist"), "utf8"), PRIMARY);
});

test("each step that fails is counted under its name, and the plugin never comes without the steps before", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY } });
  rmSync(join(n.config.serviceAccountDir, "token"));
  const installer = n.start();
  await until("a failure is counted", () => installer.counts.CREATE_KUBECONFIG_FAILURE > 0);
  assert.equal(installer.ready, false);
  assert.deepEqual(n.types("10-lab.conflist"), ["bridge", "portmap"]);

  const broken = node({ conf: { "10-lab.conflist": PRIMARY } });
  const failing = broken.start({
    plugin: {
      install: () => Promise.reject(new Error("no space left")),
      removeFormer: async () => undefined,
      remove: async () => undefined,
    },
  });
  await until("a failure is counted", () => failing.counts.COPY_BINARIES_FAILURE > 0);
  assert.match(failing.problem ?? "", /no space left/);
  assert.equal(existsSync(broken.kubeconfig), false);
});

test("one named file is the only one that is changed", async () => {
  const n = node({ conf: { "10-lab.conflist": PRIMARY, "20-named.conf": '{"name":"x","type":"ptp"}' } });
  const installer = startInstaller({
    config: { ...n.config, confName: "20-named.conf" },
    log: silentLog,
    plugin: { install: async () => false, removeFormer: async () => undefined, remove: async () => undefined },
  });
  installers.push(installer);
  await installer.whenReady();
  assert.deepEqual(n.types("10-lab.conflist"), ["bridge", "portmap"]);
  assert.deepEqual(n.types("20-named.conflist"), ["ptp", "istio-cni"]);
});
