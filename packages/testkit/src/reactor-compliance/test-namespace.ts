import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { NetNamespace } from "@tulle/linux";

/** In every test namespace: an address behind a cable whose other end belongs to nobody, so that what is sent there is lost. */
export const NOWHERE_V4 = "198.51.100.77";
const NEAR_V4 = "198.51.100.1/24";
const NOBODY = "02:00:00:00:00:77";

let count = 0;

/** A network namespace of a test's own, with loopback up. */
export interface TestNamespace {
  readonly name: string;
  readonly namespace: NetNamespace;
  /** Runs a command inside, and returns what it prints. Throws with its output when it fails. */
  run(command: string, ...args: string[]): string;
  /** Deletes the namespace. */
  close(): void;
}

/** Makes one. Fails, rather than skips, without root: what needs a namespace is part of what is promised. */
export function createTestNamespace(): TestNamespace {
  assert.equal(process.getuid?.(), 0, "this test makes network namespaces: run it as root");
  const name = `tulle-test-${process.pid}-${count++}`;
  ip("netns", "add", name);
  const run = (command: string, ...args: string[]) => ip("netns", "exec", name, command, ...args);
  try {
    run("ip", "link", "set", "lo", "up");
    run("ip", "link", "add", "nowhere", "type", "veth", "peer", "name", "void");
    run("ip", "address", "add", NEAR_V4, "dev", "nowhere");
    run("ip", "link", "set", "void", "up");
    run("ip", "link", "set", "nowhere", "up");
    run("ip", "neighbour", "add", NOWHERE_V4, "lladdr", NOBODY, "dev", "nowhere", "nud", "permanent");
    const namespace = NetNamespace.open(`/var/run/netns/${name}`);
    return {
      name,
      namespace,
      run,
      close() {
        namespace.close();
        ip("netns", "delete", name);
      },
    };
  } catch (error) {
    ip("netns", "delete", name);
    throw error;
  }
}

function ip(...args: string[]): string {
  return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], timeout: 10_000 });
}
