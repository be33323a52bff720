import assert from "node:assert/strict";
import { test } from "node:test";
import { type Store, StoreError } from "@tulle/store";
import type { Pod } from "../objects.ts";
import { podUidsOf, ztunnelAdmission } from "./ztunnel-admission.ts";

const UID = "0e0dcdcb-8d86-4d3c-9b3a-1c2d3e4f5a6b";
const OTHER = "11111111-2222-3333-4444-555555555555";
const SYSTEMD = UID.replaceAll("-", "_");

const CGROUPS: readonly (readonly [what: string, text: string, uids: readonly string[]])[] = [
  ["version 2, cgroupfs driver", `0::/kubepods/burstable/pod${UID}/0123abcd`, [UID]],
  [
    "version 2, systemd driver",
    `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${SYSTEMD}.slice/cri-containerd-01.scope`,
    [UID],
  ],
  ["a view of its own", `0::/../../pod${UID}/0123abcd`, [UID]],
  ["version 1", `3:cpu:/lab-n1/kubepods/pod${UID}/01\n2:memory:/lab-n1/kubepods/pod${UID}/01\n0::/`, [UID]],
  ["the pod's own group", `0::/kubepods/pod${UID}`, [UID]],
  ["no pod", "0::/system.slice/sshd.service", []],
  ["nothing", "", []],
  ["different pods in different hierarchies", `3:cpu:/pod${UID}/a\n2:memory:/pod${OTHER}/a`, []],
  ["a group that a pod has made below its own, with another's name", `0::/kubepods/pod${OTHER}/c/pod${UID}/x`, [OTHER]],
  ["something that only begins like it", `0::/kubepods/pod${UID}x/01`, []],
  ["mixed signs", `0::/kubepods/pod${UID.replace("-", "_")}/01`, []],
];
for (const [what, text, uids] of CGROUPS) {
  test(`the pod of a control group, ${what}`, () => assert.deepEqual(podUidsOf(text), uids));
}

function admission(pods: readonly Pod[], check: "cgroup" | "annotation", cgroup = `0::/kubepods/pod${UID}/01`) {
  const store = { list: async () => pods } as unknown as Pick<Store, "list">;
  return admissionOf({ store, check, cgroup });
}

interface Parts {
  readonly store: Pick<Store, "list">;
  readonly known?: readonly Pod[];
  readonly check?: "cgroup" | "annotation";
  readonly cgroup?: string;
  readonly now?: () => number;
}

function admissionOf({ store, known = [], check = "cgroup", cgroup = `0::/kubepods/pod${UID}/01`, now }: Parts) {
  const place = { nodeName: "n1", systemNamespace: "istio-system" };
  return ztunnelAdmission({
    store,
    known: () => known,
    ...place,
    check,
    readCgroup: () => cgroup,
    ...(now && { now }),
  });
}

interface Fields {
  readonly uid?: string;
  readonly node?: string;
  readonly phase?: string;
  readonly pid?: string;
  readonly app?: string;
  readonly home?: string;
}

function ztunnel(fields: Fields = {}): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "ztunnel-x",
      namespace: fields.home ?? "istio-system",
      uid: fields.uid ?? UID,
      labels: { app: fields.app ?? "ztunnel" },
      annotations: fields.pid === undefined ? {} : { "tulle.dev/pid": fields.pid },
    },
    spec: { nodeName: fields.node ?? "n1" },
    status: { phase: fields.phase ?? "Running" },
  };
}

const ROOT = { pid: 42, uid: 0, gid: 0 };

test("this node's ztunnel is admitted", async () => {
  assert.equal(await admission([ztunnel({ uid: OTHER }), ztunnel()], "cgroup")(ROOT), undefined);
  assert.equal(await admission([ztunnel({ pid: "42" })], "annotation")(ROOT), undefined);
});

const REFUSED: readonly (readonly [what: string, refusal: Promise<string | undefined>, text: RegExp])[] = [
  ["not root", admission([ztunnel()], "cgroup")({ ...ROOT, uid: 1337 }), /not run as root/],
  ["of another pid namespace", admission([ztunnel()], "cgroup")({ ...ROOT, pid: 0 }), /needs hostPID/],
  ["in no pod", admission([ztunnel()], "cgroup", "0::/user.slice")(ROOT), /in no pod/],
  ["in another pod", admission([ztunnel({ uid: OTHER })], "cgroup")(ROOT), /in no pod of istio-system/],
  ["ztunnel of another node", admission([ztunnel({ node: "n2" })], "cgroup")(ROOT), /on this node/],
  ["a ztunnel that has ended", admission([ztunnel({ phase: "Failed" })], "cgroup")(ROOT), /in no pod of/],
  ["no ztunnel there", admission([], "cgroup")(ROOT), /in no pod of/],
  ["another process than annotated", admission([ztunnel({ pid: "43" })], "annotation")(ROOT), /in no pod of/],
  ["no process annotated", admission([ztunnel()], "annotation")(ROOT), /in no pod of/],
];
for (const [what, refusal, text] of REFUSED) {
  test(`refused at ZDS: ${what}`, async () => assert.match((await refusal) ?? "", text));
}

const AWAY: Pick<Store, "list"> = {
  list: () => Promise.reject(new StoreError("UNAVAILABLE", "connection refused")),
};

test("while the API is away a ztunnel of a pod that is known is admitted, and nobody else", async () => {
  assert.equal(await admissionOf({ store: AWAY, known: [ztunnel()] })(ROOT), undefined);
  const own = { store: AWAY, known: [ztunnel({ pid: "42" })], check: "annotation" } as const;
  assert.equal(await admissionOf(own)(ROOT), undefined);
  const others = [{ uid: OTHER }, { node: "n2" }, { phase: "Failed" }, { app: "web" }, { home: "default" }];
  for (const fields of others) {
    const refusal = await admissionOf({ store: AWAY, known: [ztunnel(fields)] })(ROOT);
    assert.match(refusal ?? "", /in no pod of istio-system .*the API cannot be asked for others: connection refused/);
  }
});

test("what the API answers other than that it is away lets nobody in", async () => {
  const store: Parts["store"] = { list: () => Promise.reject(new StoreError("FORBIDDEN", "no")) };
  await assert.rejects(admissionOf({ store })(ROOT), /no/);
});

test("the API is asked about strangers a few times a second, and about a known ztunnel never", async () => {
  let [asked, time] = [0, 0];
  const store: Parts["store"] = { list: () => Promise.resolve([]).finally(() => asked++) };
  const pods: Pod[] = [];
  const admit = admissionOf({ store, known: pods, now: () => time });
  for (let i = 0; i < 100; i++) await admit(ROOT);
  assert.equal(asked, 5);
  assert.match((await admit(ROOT)) ?? "", /in no pod of istio-system .* 5 others were asked for within a second/);
  for (; time < 3000; time += 10) await admit(ROOT);
  assert.ok(asked <= 5 * 4, `${asked} in three seconds`);
  pods.push(ztunnel());
  const before = asked;
  assert.equal(await admit(ROOT), undefined);
  assert.equal(asked, before);
});
