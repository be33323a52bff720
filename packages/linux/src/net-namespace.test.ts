import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readlinkSync } from "node:fs";
import { after, before, test } from "node:test";
import { LabNamespace, run } from "@tulle/lab";
import { createTestNamespace, type TestNamespace } from "@tulle/testkit";
import { currentNamespaceKey, NetNamespace, openDescriptors, readSysctl, SystemError, writeSysctl } from "./index.ts";

let inside: TestNamespace;
let path: string;
before(() => {
  inside = createTestNamespace();
  path = `/var/run/netns/${inside.name}`;
});
after(() => {
  inside.close();
  assert.deepEqual(openDescriptors(), []);
});

const ownLink = () => readlinkSync("/proc/thread-self/ns/net");

test("enter runs inside and comes back, also after a throw", () => {
  const home = ownLink();
  const there = inside.namespace.enter(ownLink);
  assert.notEqual(there, home);
  assert.equal(ownLink(), home);
  assert.equal(inside.namespace.key.split(":")[1], /\d+/.exec(there)?.[0]);
  assert.throws(
    () =>
      inside.namespace.enter(() => {
        throw new Error("inside");
      }),
    /inside/,
  );
  assert.equal(ownLink(), home);
});

test("keys are equal for the same namespace and differ for others", () => {
  using again = NetNamespace.open(path);
  using copy = again.duplicate();
  assert.equal(again.key, inside.namespace.key);
  assert.equal(copy.key, inside.namespace.key);
  assert.notEqual(copy.descriptor, again.descriptor);
  assert.notEqual(again.key, currentNamespaceKey());
});

test("a duplicate outlives its original, and closing twice is closing once", () => {
  const original = NetNamespace.open(path);
  using copy = original.duplicate();
  original.close();
  original.close();
  assert.equal(original.closed, true);
  assert.throws(() => original.enter(ownLink), { code: "EBADF" });
  assert.notEqual(copy.enter(ownLink), ownLink());
});

test("a new namespace is another one than ours, and goes with its handle", () => {
  const home = ownLink();
  using made = NetNamespace.create();
  assert.equal(ownLink(), home);
  assert.notEqual(made.key, currentNamespaceKey());
  assert.notEqual(made.enter(ownLink), home);
  made.enter(() => assert.throws(() => NetNamespace.create(), /entered already/));
});

test("a handle without the file keeps the namespace, not the file", async () => {
  const bound = await LabNamespace.create("bound");
  const opened = NetNamespace.open(bound.path);
  using held = opened.withoutFile();
  assert.equal(held.key, opened.key);
  await assert.rejects(run("umount", [bound.path]), /busy/);
  opened.close();
  await run("umount", [bound.path]);
  assert.notEqual(held.enter(ownLink), ownLink());
  await bound.delete().catch(() => undefined);
});

test("a descriptor number that was closed and given to something else is refused", () => {
  const home = ownLink();
  for (const other of ["/proc/self/ns/net", "/dev/null"]) {
    const victim = NetNamespace.open(path);
    closeSync(victim.descriptor);
    const number = openSync(other, "r");
    assert.equal(number, victim.descriptor, "the test needs the same number");
    assert.throws(
      () => victim.enter(ownLink),
      (error) => error instanceof SystemError && error.code === "ESTALE",
    );
    victim.close();
  }
  assert.equal(ownLink(), home);
});

test("what is no network namespace is refused and closed", () => {
  for (const other of ["/proc/self/ns/uts", "/dev/null"]) {
    assert.throws(() => NetNamespace.open(other), { code: "EINVAL" }, other);
  }
  assert.throws(() => NetNamespace.open("/var/run/netns/no-such-name"), { code: "ENOENT" });
});

test("entering while inside is refused", () => {
  assert.throws(() => inside.namespace.enter(() => inside.namespace.enter(ownLink)), /entered already/);
  assert.notEqual(inside.namespace.enter(ownLink), ownLink());
});

test("sysctls are those of the namespace", () => {
  const name = "net/ipv4/tcp_migrate_req";
  const outside = readSysctl(name);
  writeSysctl(name, 1, inside.namespace);
  assert.equal(readSysctl(name, inside.namespace), "1");
  assert.equal(readSysctl(name), outside);
  assert.equal(readSysctl("net/ipv4/no_such_name", inside.namespace), undefined);
  assert.throws(() => writeSysctl("net/ipv4/no_such_name", 1, inside.namespace), { code: "ENOENT" });
  for (const bad of ["../etc/passwd", "net/../../etc/passwd", "/net/ipv4/x", "net", "net/./x", "net/a b"]) {
    assert.throws(() => readSysctl(bad), RangeError, bad);
  }
});

/** What may go wrong on the way back, each in a process of its own: it must end rather than go on in the wrong place. */
const SABOTAGE = {
  "home's descriptor is gone": "",
  "home's number is another file": 'fs.openSync("/dev/null", "r");',
  "home's number is another namespace": "fs.openSync(path, 'r');",
};

for (const [title, replacement] of Object.entries(SABOTAGE)) {
  test(`a thread that cannot come back ends the process: ${title}`, () => {
    const script = `
      const fs = require("node:fs");
      const path = process.argv[1];
      import(${JSON.stringify(import.meta.resolve("./index.ts"))}).then(({ NetNamespace }) => {
        const home = fs.readlinkSync("/proc/thread-self/ns/net");
        const namespace = NetNamespace.open(path);
        namespace.enter(() => {
          for (const name of fs.readdirSync("/proc/self/fd")) {
            let target = "";
            try { target = fs.readlinkSync("/proc/self/fd/" + name); } catch { /* the directory's own descriptor */ }
            if (target === home) { fs.closeSync(Number(name)); break; }
          }
          ${replacement}
          console.log("sabotaged");
        });
        console.log("went on");
      });`;
    const child = spawnSync("sh", ["-c", 'ulimit -c 0; exec "$0" -e "$1" "$2"', process.execPath, script, path], {
      encoding: "utf8",
      timeout: 20_000,
    });
    assert.equal(child.stdout, "sabotaged\n", child.stderr);
    assert.equal(child.signal, "SIGABRT");
  });
}
