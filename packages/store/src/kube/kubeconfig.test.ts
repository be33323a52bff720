import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { inClusterConnection } from "./in-cluster.ts";
import { kubeconfigConnection } from "./kubeconfig.ts";
import { pluginConnection } from "./kubeconfig-plugin.ts";

const folder = mkdtempSync(join(tmpdir(), "tulle-kubeconfig-"));
after(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

write("ca.crt", "CA");
write("token", "from-file\n");
const full = write(
  "full.yaml",
  `apiVersion: v1
kind: Config
current-context: one
clusters:
- name: c
  cluster: {server: "https://[::1]:6443/", certificate-authority: ca.crt, tls-server-name: kubernetes}
- name: insecure
  cluster: {server: "https://h", insecure-skip-tls-verify: true}
- name: plain
  cluster: {server: "http://example.com"}
- name: proxied
  cluster: {server: "https://h", proxy-url: "http://proxy"}
users:
- name: cert
  user: {client-certificate-data: ${btoa("CERT")}, client-key-data: ${btoa("KEY")}}
- name: file
  user: {tokenFile: token, token: not-this}
- name: basic
  user: {username: u, password: p}
contexts:
- {name: one, context: {cluster: c, user: cert, namespace: ns}}
- {name: two, context: {cluster: insecure, user: file}}
- {name: three, context: {cluster: insecure, user: basic}}
- {name: plain, context: {cluster: plain, user: cert}}
- {name: proxied, context: {cluster: proxied, user: cert}}
- {name: astray, context: {cluster: nowhere, user: cert}}
`,
);

test("certificates, inline and in files beside the kubeconfig", async () => {
  const connection = await kubeconfigConnection({ KUBECONFIG: full });
  assert.deepEqual([connection.server, connection.namespace], ["https://[::1]:6443", "ns"]);
  const { ca, cert, key, servername, rejectUnauthorized } = connection.tls;
  assert.deepEqual([String(ca), String(cert), String(key), servername], ["CA", "CERT", "KEY", "kubernetes"]);
  assert.equal(rejectUnauthorized, undefined);
  assert.equal(await connection.authorization(false), undefined);
});

test("token files before tokens, and passwords", async () => {
  const two = await kubeconfigConnection({ KUBECONFIG: full }, { context: "two" });
  assert.equal(await two.authorization(false), "Bearer from-file");
  assert.equal(two.tls.rejectUnauthorized, false);
  const three = await kubeconfigConnection({}, { files: [full], context: "three" });
  assert.equal(await three.authorization(false), `Basic ${btoa("u:p")}`);
});

test("of several files the first that names a thing wins, and missing files are passed over", async () => {
  const first = write(
    "first.json",
    JSON.stringify({ "current-context": "two", users: [{ name: "file", user: { token: "mine" } }] }),
  );
  const files = [join(folder, "missing"), first, full].join(":");
  const connection = await kubeconfigConnection({ KUBECONFIG: files });
  assert.equal(await connection.authorization(false), "Bearer mine");
});

test("what cannot be used is refused, and the message says what", async () => {
  const cases: readonly (readonly [context: string, message: RegExp])[] = [
    ["none", /no such context; there are one, two/],
    ["astray", /cluster nowhere is missing/],
    ["plain", /must begin with https/],
    ["proxied", /proxy-url is not supported/],
  ];
  for (const [context, message] of cases) {
    await assert.rejects(kubeconfigConnection({ KUBECONFIG: full }, { context }), { code: "INVALID", message });
  }
  await assert.rejects(kubeconfigConnection({ KUBECONFIG: join(folder, "no") }), {
    message: /there is no kubeconfig at/,
  });
  const broken = write("broken.yaml", "a: [");
  await assert.rejects(kubeconfigConnection({ KUBECONFIG: broken }), { code: "INVALID", message: /broken.yaml/ });
});

test("credential plugins are run, and again when their token is refused", async () => {
  const plugin = write(
    "plugin",
    `#!/bin/sh
n=$(cat ${folder}/count 2>/dev/null || echo 0); n=$((n+1)); echo $n > ${folder}/count
case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) ;; *) exit 3;; esac
echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t'$n'"}}'
`,
  );
  chmodSync(plugin, 0o700);
  const exec = { apiVersion: "client.authentication.k8s.io/v1", command: plugin };
  const path = write(
    "exec.json",
    JSON.stringify({
      "current-context": "x",
      clusters: [{ name: "c", cluster: { server: "https://h" } }],
      users: [{ name: "u", user: { exec } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    }),
  );
  const connection = await kubeconfigConnection({ KUBECONFIG: path });
  assert.equal(await connection.authorization(false), "Bearer t1");
  assert.equal(await connection.authorization(false), "Bearer t1");
  assert.equal(await connection.authorization(true), "Bearer t2");
  writeFileSync(plugin, "#!/bin/sh\necho no luck >&2; exit 1\n");
  await assert.rejects(connection.authorization(true), { code: "UNAVAILABLE", message: /plugin failed: no luck/ });
});

test("a credential plugin that does not answer is not waited for without end", async () => {
  const plugin = write("slow-plugin", "#!/bin/sh\nexec sleep 2\n");
  chmodSync(plugin, 0o700);
  const connection = { server: "https://h", source: "kubeconfig x", namespace: "default", tls: {} };
  const user = { exec: { apiVersion: "client.authentication.k8s.io/v1", command: plugin }, folder };
  await assert.rejects(pluginConnection(connection, user, "u", 100), {
    code: "UNAVAILABLE",
    message: "kubeconfig x: the credential plugin failed: no answer within 0.1 s",
  });
});

test("a pod's service account, with an IPv6 address too", async () => {
  const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "6443" };
  const connection = inClusterConnection(env, folder);
  assert.equal(connection.server, "https://[fd00::1]:6443");
  assert.equal(String(connection.tls.ca), "CA");
  write("token", "renewed");
  assert.equal(await connection.authorization(false), "Bearer renewed");
  assert.throws(() => inClusterConnection(env, join(folder, "nowhere")), {
    code: "INVALID",
    message: /service account/,
  });
  assert.throws(() => inClusterConnection({ KUBERNETES_SERVICE_HOST: "h", KUBERNETES_SERVICE_PORT: "x" }, folder), {
    code: "INVALID",
  });
});
