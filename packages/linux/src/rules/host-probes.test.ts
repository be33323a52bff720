import assert from "node:assert/strict";
import type { Server } from "node:net";
import { after, before, describe, test } from "node:test";
import { Lab, type LabHost, listenIn, until } from "@tulle/lab";
import { applyHostProbes, hostProbeTransaction, readHostProbes, removeHostProbes } from "./host-probes.ts";
import { DEFAULT_PROBE_IPS } from "./pod-rules.ts";

const PROBED = 8080;
const OTHER = 9090;
/** Of one transfer, and of a command with two: long for a busy machine, and only spent when the test fails. */
const CURL_SECONDS = 20;
const SLOW = { timeoutMs: 60_000 };
const OPTIONS = { sources: DEFAULT_PROBE_IPS, uid: 0, cgroup: undefined };

describe("the host's rules for probes", () => {
  let lab: Lab;
  let pod: LabHost;
  const servers: (Server & AsyncDisposable)[] = [];
  const seen: (readonly [port: number, from: string])[] = [];

  before(async () => {
    lab = await Lab.create();
    pod = await lab.host("pod");
    for (const port of [PROBED, OTHER]) {
      servers.push(
        await listenIn(pod.namespace.path, { ip: "::", port }, (socket) => {
          seen.push([port, (socket.remoteAddress ?? "").replace(/^::ffff:/, "")]);
          socket.end("ok");
        }),
      );
    }
  });
  after(async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
    await lab.close();
  });

  /** As which address the pod sees a connection of the host. */
  async function knock(ip: string, port: number, options: readonly string[] = []): Promise<string> {
    seen.length = 0;
    const url = `http://${ip.includes(":") ? `[${ip}]` : ip}:${port}/`;
    const words = ["-s", "--http0.9", "--max-time", `${CURL_SECONDS}`, "-o", "/dev/null", url];
    await lab.fabric.run("setpriv", [...options, "curl", ...words], SLOW);
    return seen.find(([at]) => at === port)?.[1] ?? "";
  }

  test("only the kubelet's user is translated, and only to declared ports", async () => {
    const targets = [{ ip: pod.v4, port: PROBED }, ...(pod.v6 === undefined ? [] : [{ ip: pod.v6, port: PROBED }])];
    await applyHostProbes(lab.fabric.path, { ...OPTIONS, targets });
    assert.equal(await knock(pod.v4, PROBED), DEFAULT_PROBE_IPS[0]);
    if (pod.v6 !== undefined) assert.equal(await knock(pod.v6, PROBED), DEFAULT_PROBE_IPS[1]);
    assert.equal(await knock(pod.v4, OTHER), lab.gateway.v4, "no declared port");
    const nobody = ["--reuid", "65534", "--clear-groups"];
    assert.equal(await knock(pod.v4, PROBED, nobody), lab.gateway.v4, "another user of the host");
  });

  test("what is in force can be read, is replaced whole, and goes without a trace", async () => {
    const targets = [{ ip: pod.v4, port: PROBED }];
    await applyHostProbes(lab.fabric.path, { ...OPTIONS, targets });
    const state = await readHostProbes(lab.fabric.path);
    assert.deepEqual(state?.targets, targets);
    await applyHostProbes(lab.fabric.path, { ...OPTIONS, targets });
    assert.deepEqual(await readHostProbes(lab.fabric.path), state);
    await applyHostProbes(lab.fabric.path, { ...OPTIONS, targets: [] });
    assert.notEqual((await readHostProbes(lab.fabric.path))?.text, state?.text);
    assert.equal(await knock(pod.v4, PROBED), lab.gateway.v4);
    await removeHostProbes(lab.fabric.path);
    await removeHostProbes(lab.fabric.path);
    assert.equal(await readHostProbes(lab.fabric.path), undefined);
    assert.equal(await lab.fabric.run("nft", ["list", "ruleset"]), "");
  });

  test("with a control group, another process of the same user is not translated", async () => {
    const targets = [{ ip: pod.v4, port: PROBED }];
    const transaction = hostProbeTransaction({ ...OPTIONS, cgroup: "tulle-test/kubelet", targets });
    // nft looks names up below /sys/fs/cgroup; this machine may have version 1 there, so the shell has mounts of its own.
    const script = `
      set -e
      mount -t cgroup2 none /sys/fs/cgroup
      mkdir -p /sys/fs/cgroup/tulle-test/kubelet
      trap 'echo $$ > /sys/fs/cgroup/cgroup.procs; rmdir /sys/fs/cgroup/tulle-test/kubelet /sys/fs/cgroup/tulle-test' EXIT
      nft -f -
      curl -s --http0.9 --max-time ${CURL_SECONDS} -o /dev/null http://${pod.v4}:${PROBED}/ </dev/null
      echo $$ > /sys/fs/cgroup/tulle-test/kubelet/cgroup.procs
      curl -s --http0.9 --max-time ${CURL_SECONDS} -o /dev/null http://${pod.v4}:${PROBED}/ </dev/null
    `;
    seen.length = 0;
    await lab.fabric.run("unshare", ["--mount", "--", "bash", "-c", script], { input: transaction, ...SLOW });
    await until(() => seen.length === 2, { what: "both connections" });
    assert.deepEqual(
      seen.map(([, from]) => from),
      [lab.gateway.v4, DEFAULT_PROBE_IPS[0]],
    );
    await removeHostProbes(lab.fabric.path);
  });
});

test("nothing but addresses, ports, users and control groups gets into the transaction", () => {
  const wrong: readonly Partial<Parameters<typeof hostProbeTransaction>[0]>[] = [
    { uid: -1 },
    { uid: 0.5 },
    { cgroup: "" },
    { cgroup: 'a"b' },
    { cgroup: "a b" },
    { cgroup: "../a" },
    { cgroup: "a/../b" },
    { cgroup: "/a" },
    { sources: ["169.254.7.127/32"] },
    { targets: [{ ip: "x", port: 1 }] },
    { targets: [{ ip: "10.0.0.1", port: 0 }] },
    { targets: [{ ip: "10.0.0.1", port: 65_536 }] },
  ];
  for (const options of wrong) {
    assert.throws(
      () => hostProbeTransaction({ ...OPTIONS, targets: [], ...options }),
      RangeError,
      JSON.stringify(options),
    );
  }
});
