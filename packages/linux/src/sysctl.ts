import { readFileSync, writeFileSync } from "node:fs";
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

/** Writes one; throws the error of the file system (ENOENT, EACCES …). */
export function writeSysctl(name: string, value: string | number, namespace?: NetNamespace): void {
  const path = pathOf(name);
  within(namespace, () => writeFileSync(path, `${value}\n`));
}

function within<T>(namespace: NetNamespace | undefined, action: () => T): T {
  return namespace === undefined ? action() : namespace.enter(action);
}

function pathOf(name: string): string {
  if (!NAME.test(name) || name.split("/").includes("..") || name.split("/").includes(".")) {
    throw new RangeError(`${name} is not the name of a sysctl: write it like net/ipv4/tcp_migrate_req`);
  }
  return `/proc/sys/${name}`;
}
