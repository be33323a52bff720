import { accessSync, constants, readFileSync, writeFileSync } from "node:fs";
import type { NetNamespace } from "./net-namespace.ts";

/** Letters, digits and the separators of a sysctl name: no way out of /proc/sys. */
const NAME = /^[a-z0-9_-]+(\/[a-zA-Z0-9_.:@-]+)+$/;

/**
 * Reads `net/ipv4/tcp_migrate_req` and the like, in a namespace (default: the thread's own): /proc/sys/net shows the
 * namespace of the thread that opens it. Undefined when this kernel has no such name. Throws the error of the file system.
 */
export function readSysctl(name: string, namespace?: NetNamespace): string | undefined {
  const path = pathOf(name);
  return within(namespace, () => {
    try {
      return readFileSync(path, "utf8").trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  });
}

/** Writes one; throws the error of the file system (ENOENT, EACCES, EROFS …). */
export function writeSysctl(name: string, value: string | number, namespace?: NetNamespace): void {
  const paths = [pathOf(name), hostPathOf(name)];
  within(namespace, () => {
    const [own, host] = paths as [string, string];
    writeFileSync(!isWritable(own) && isWritable(host) ? host : own, `${value}\n`);
  });
}

/** Whether `writeSysctl` would be let in. */
export function isWritableSysctl(name: string, namespace?: NetNamespace): boolean {
  const paths = [pathOf(name), hostPathOf(name)];
  return within(namespace, () => paths.some(isWritable));
}

function within<T>(namespace: NetNamespace | undefined, action: () => T): T {
  return namespace === undefined ? action() : namespace.enter(action);
}

/**
 * Containers have a read-only /proc/sys. One that sees the host's processes reaches the same settings through the first
 * process' root: which network namespace net/ is about depends on who opens it, not on the path.
 */
function hostPathOf(name: string): string {
  return `/proc/1/root${pathOf(name)}`;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    // Whatever the reason, it can only be told.
    return false;
  }
}

function pathOf(name: string): string {
  if (!NAME.test(name) || name.split("/").includes("..") || name.split("/").includes(".")) {
    throw new RangeError(`${name} is not the name of a sysctl: write it like net/ipv4/tcp_migrate_req`);
  }
  return `/proc/sys/${name}`;
}
