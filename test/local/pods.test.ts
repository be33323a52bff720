import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { run, until } from "@tulle/lab";
import { LocalMesh, meshName, Workspace } from "./local-mesh.ts";

/** What a pod is given, what it cannot do, and how pods in and outside the mesh reach each other. */

const STRICT = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: probers}
spec: {mtls: {mode: STRICT}}
`;

let workspace: Workspace;
let mesh: LocalMesh;

before(async () => {
  workspace = Workspace.copyOf(fileURLToPath(new URL("fixtures/prober", import.meta.url)));
  mesh = await LocalMesh.start(workspace.path, { name: meshName("p") });
});

after(async () => {
  await mesh?.stop();
  workspace?.[Symbol.dispose]();
});

async function ask<T>(path: string): Promise<T> {
  return (await (await fetch(mesh.url(8080, path), { headers: { connection: "close" } })).json()) as T;
}

/** As a program in the pod would ask; the answer's body. */
function curlFrom(pod: string, url: string): Promise<string> {
  const etc = ["--mount", "--propagation", "private", "sh", "-c"];
  const resolver = `nameserver ${mesh.output.match(/network: bridge \S+, (\S+)/)?.[1]}`;
  const script =
    'echo "$1" >/tmp/resolv.$$ && mount -o bind /tmp/resolv.$$ /etc/resolv.conf && rm /tmp/resolv.$$ && exec curl -sS -m 10 "$2"';
  return run("unshare", [...etc, script, "sh", resolver, url], { namespace: mesh.namespaceOf(pod), timeoutMs: 15_000 });
}

test("a pod can neither leave its namespace nor change what captures it", async () => {
  const attempts = await ask<Record<string, string>>("/attempts");
  assert.ok(Object.keys(attempts).length > 10);
  for (const [what, came] of Object.entries(attempts)) assert.match(came, /^refused/, `${what}: ${came}`);
  assert.ok(!existsSync(join(workspace.path, "written")));
});

test("a pod's process has no capability, no way to get one, and a user of its own", async () => {
  const status = await ask<string>("/status");
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    assert.match(status, new RegExp(`${set}:\\t0+\\n`));
  assert.match(status, /NoNewPrivs:\t1/);
  assert.match(status, /Uid:\t19\d{8}\t/);
  assert.match(await ask<string>("/limits"), /Max processes +2000 /);
  assert.match(status, /Groups:\t *\n/);
});

test("resolv.conf, hosts and environment are those of a pod, and nothing of the host's", async () => {
  assert.match(
    await ask("/resolv"),
    /^search probers\.svc\.cluster\.local svc\.cluster\.local cluster\.local\nnameserver \S+\noptions ndots:5\n$/,
  );
  assert.match(await ask("/hosts"), new RegExp(`${await mesh.addressOf("probers.prober")} prober-`));
  const environment = await ask<Record<string, string>>("/environment");
  assert.match(environment.NODE_NAME ?? "", /^node-[12]$/);
  assert.deepEqual(Object.keys(environment).sort(), ["HOME", "HOSTNAME", "NODE_NAME", "PATH", "PORT"]);
});

test("pods outside the mesh reach each other by service name and address", async () => {
  const environment = JSON.parse(await curlFrom("plain.plain", "http://plain.plain.svc.cluster.local/environment"));
  assert.match(environment.HOSTNAME, /^plain-/);
});

test("a pod of the mesh reaches one outside by service name", async () => {
  assert.match(await curlFrom("probers.prober", "http://plain.plain.svc.cluster.local/ready"), /yes/);
});

test("a host of a ServiceEntry has an address of its own, and leads to its endpoints", async () => {
  workspace.write(
    "entry.yaml",
    `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: old, namespace: plain}
spec:
  hosts: [old.example]
  ports: [{name: http, number: 80, targetPort: 8081, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: plain}}
`,
  );
  const answer = () => curlFrom("probers.prober", "http://old.example/environment");
  await until(
    () =>
      answer().then(
        (text) => text.includes('"HOSTNAME":"plain-'),
        () => false,
      ),
    { what: "an answer" },
  );
  const [entry] = await mesh.objects("serviceentries");
  const { addresses = [] } = (entry?.status ?? {}) as { addresses?: readonly { value: string; host: string }[] };
  assert.deepEqual([...new Set(addresses.map(({ host }) => host))], ["old.example"]);
  workspace.remove("entry.yaml");
  await until(
    () =>
      answer().then(
        () => false,
        () => true,
      ),
    { what: "the name to be gone" },
  );
});

test("a pod outside reaches one of the mesh in plaintext, until STRICT refuses it, and again after", async () => {
  const url = "http://prober.probers.svc.cluster.local:8080/ready";
  assert.match(await curlFrom("plain.plain", url), /yes/);
  workspace.write("strict.yaml", STRICT);
  await until(
    () =>
      curlFrom("plain.plain", url).then(
        () => false,
        () => true,
      ),
    { what: "STRICT to refuse plaintext" },
  );
  assert.equal(await ask("/ready"), "yes");
  workspace.remove("strict.yaml");
  await until(() => curlFrom("plain.plain", url), { what: "plaintext to be let in again" });
});

test("a pod that loses its label leaves the mesh while it runs, and comes back with it", async () => {
  const yaml = workspace.read("prober.yaml");
  const process = await mesh.processOf("probers.prober");
  const rules = () => run("nft", ["list", "ruleset"], { namespace: mesh.namespaceOf("probers.prober") });
  assert.match(await rules(), /table inet tulle-pod/);
  workspace.write("prober.yaml", yaml.replace("labels: {istio.io/dataplane-mode: ambient}", "labels: {}"));
  await until(async () => !/tulle-pod/.test(await rules()), { what: "the rules to go", timeoutMs: 30_000 });
  assert.equal(await ask("/ready"), "yes");
  workspace.write("prober.yaml", yaml);
  await until(async () => /table inet tulle-pod/.test(await rules()), { what: "the rules to come back" });
  assert.equal(await ask("/ready"), "yes");
  assert.equal(await mesh.processOf("probers.prober"), process, "the pod was not restarted");
});

test("a policy that ztunnel can only enforce in part is told", async () => {
  workspace.write(
    "methods.yaml",
    `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: methods, namespace: plain}
spec:
  action: DENY
  rules: [{to: [{operation: {methods: [DELETE]}}]}]
`,
  );
  await until(() => /! AuthorizationPolicy plain\/methods: .*HTTP attributes \(found: methods\)/.test(mesh.output), {
    what: "the warning",
  });
});

test("a service that moves to another port of this machine is served there, and no longer where it was", async () => {
  const yaml = workspace.read("prober.yaml");
  workspace.write("prober.yaml", yaml.replace("port: 8080", "port: 8090"));
  await until(async () => (await fetch(mesh.url(8090, "/ready"))).status === 200, {
    what: "the new port",
    timeoutMs: 20_000,
  });
  await assert.rejects(fetch(mesh.url(8080, "/ready")));
});
