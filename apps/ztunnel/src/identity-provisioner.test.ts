import assert from "node:assert/strict";
import { test } from "node:test";
import { formatIdentity, type Identity, silentLog } from "@tulle/base";
import { MeshState, newWorkload } from "@tulle/mesh";
import type { CertificateListener, IdentityStore, WorkloadCertificate } from "@tulle/pki";
import { IdentityProvisioner } from "./identity-provisioner.ts";

const WEB: Identity = { trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web" };
const URI = formatIdentity(WEB);
const NODE = "n1";
/** So long that who does not wait is seen to be quicker, on a busy machine too. */
const JOIN_WAIT_MS = 1000;

/** What of a certificate is passed on. */
const CERTIFICATE = {
  notAfter: Number.MAX_SAFE_INTEGER,
  material: () => ({ certificateChainPem: "chain", privateKey: new Uint8Array([1]), rootsPem: "roots" }),
} as unknown as WorkloadCertificate;

function setUp(joinWaitMs = 5000) {
  const log: string[] = [];
  let answer: () => Promise<WorkloadCertificate> = () => Promise.resolve(CERTIFICATE);
  let tell: CertificateListener = () => {};
  const store = {
    get: () => answer(),
    warm: (identity: Identity) => log.push(`warm ${formatIdentity(identity)}`),
    forget: (identity: Identity) => log.push(`forget ${formatIdentity(identity)}`),
    subscribe: (listener: CertificateListener) => {
      tell = listener;
      return () => {};
    },
  } as unknown as IdentityStore;
  const threads = {
    provideIdentity: (uri: string) => log.push(`provide ${uri}`),
    failIdentity: (uri: string) => log.push(`fail ${uri}`),
    forgetIdentity: (uri: string) => log.push(`threads forget ${uri}`),
  };
  const state = new MeshState();
  const prefetch = { state, nodeName: NODE };
  const provisioner = new IdentityProvisioner({ store, threads, log: silentLog, prefetch, joinWaitMs });
  const workload = (protocol: "HBONE" | "TCP") => {
    const { namespace, serviceAccount } = WEB;
    const one = newWorkload({ uid: "web-1", name: "web-1", namespace, serviceAccount, node: NODE, protocol });
    state.apply({ kind: "workload", workload: one });
  };
  return {
    provisioner,
    log,
    workload,
    answerWith: (next: typeof answer) => (answer = next),
    tell: () => tell(WEB, CERTIFICATE),
  };
}

/** What waits for the end of the current task has run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a pod that is served has its certificate on the threads before anybody asks", async () => {
  const { provisioner, log } = setUp();
  provisioner.serve("pod", WEB);
  await provisioner.whenReady("pod");
  assert.deepEqual(log, [`warm ${URI}`, `provide ${URI}`]);
  await provisioner.whenReady("pod");
  assert.equal(log.length, 2, "once");
});

test("a pod that is refused at first, because the authority has not heard of it yet, waits for it", async () => {
  const { provisioner, log, answerWith } = setUp();
  let tries = 0;
  answerWith(() => (++tries < 3 ? Promise.reject(new Error("no such pod")) : Promise.resolve(CERTIFICATE)));
  provisioner.serve("pod", WEB);
  await provisioner.whenReady("pod");
  assert.equal(tries, 3);
  assert.ok(log.includes(`provide ${URI}`));
});

test("an authority that does not answer keeps one pod waiting, for a while, and no other until it is back", async () => {
  const { provisioner, answerWith, tell } = setUp(JOIN_WAIT_MS);
  answerWith(() => new Promise(() => {}));
  provisioner.serve("one", WEB);
  provisioner.serve("two", { ...WEB, serviceAccount: "other" });
  const begin = performance.now();
  await provisioner.whenReady("one");
  const waited = performance.now() - begin;
  assert.ok(waited >= JOIN_WAIT_MS - 10, `${waited} ms`);
  await provisioner.whenReady("two");
  assert.ok(performance.now() - begin - waited < JOIN_WAIT_MS - 100, "the second one did not wait");
  tell();
  answerWith(() => Promise.resolve(CERTIFICATE));
  await provisioner.whenReady("two");
});

test("a pod that leaves the mesh keeps its identity as long as it is served", async () => {
  const { provisioner, log, workload } = setUp();
  workload("HBONE");
  provisioner.serve("pod", WEB);
  workload("TCP");
  await settled();
  assert.ok(!log.some((line) => line.includes("forget")), log.join());
  provisioner.release("pod");
  await settled();
  assert.deepEqual(log.slice(-2), [`forget ${URI}`, `threads forget ${URI}`]);
});

test("one that is released while it waits gets nothing any more", async () => {
  const { provisioner, log, answerWith } = setUp();
  const gate = Promise.withResolvers<WorkloadCertificate>();
  answerWith(() => gate.promise);
  provisioner.serve("pod", WEB);
  const waiting = provisioner.whenReady("pod");
  provisioner.release("pod");
  gate.resolve(CERTIFICATE);
  await waiting;
  assert.ok(!log.includes(`provide ${URI}`));
});
