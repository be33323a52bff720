import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { LabNamespace, run } from "@tulle/lab";
import { NetNamespace } from "./net-namespace.ts";
import { isWritableSysctl, readSysctl, writeSysctl } from "./sysctl.ts";

const NAME = "net/ipv4/tcp_migrate_req";

describe("settings of a network namespace", () => {
  let pod: LabNamespace;
  before(async () => {
    pod = await LabNamespace.create("sysctl");
  });
  after(() => pod.delete());

  test("are written there and nowhere else", () => {
    const here = readSysctl(NAME);
    using namespace = NetNamespace.open(pod.path);
    writeSysctl(NAME, 1, namespace);
    assert.equal(readSysctl(NAME, namespace), "1");
    assert.equal(readSysctl(NAME), here);
    writeSysctl(NAME, 0, namespace);
  });

  test("are reached through the first process where a container's own are read-only", async () => {
    const module = new URL("./index.ts", import.meta.url).href;
    const script = `
      import { NetNamespace, writeSysctl } from ${JSON.stringify(module)};
      const namespace = NetNamespace.open(${JSON.stringify(pod.path)});
      writeSysctl(${JSON.stringify(NAME)}, 1, namespace);
      process.exit(0);
    `;
    // The first process of a "host" of its own, and in it a "container".
    const container = 'mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
    const host = `unshare --mount -- sh -c '${container}' sh "$@"; exit $?`;
    const node = [process.execPath, "--input-type=module", "--no-warnings", "-e", script];
    await run("unshare", ["--pid", "--fork", "--mount", "--mount-proc", "--", "sh", "-c", host, "sh", ...node]);
    using namespace = NetNamespace.open(pod.path);
    assert.equal(readSysctl(NAME, namespace), "1");
  });

  test("that do not exist are undefined, and names that lead elsewhere are refused", () => {
    assert.equal(readSysctl("net/ipv4/no_such_setting"), undefined);
    assert.equal(isWritableSysctl("net/ipv4/no_such_setting"), false);
    for (const name of ["net/../kernel/x", "/net/x", "net", "net//x", "../x/y"]) {
      assert.throws(() => readSysctl(name), RangeError, name);
    }
  });
});
