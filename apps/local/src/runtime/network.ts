import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import type { AddressPair } from "../objects/addresses.ts";

/** Network namespaces on one bridge, by the `ip` tool. Names carry the mesh's prefix, so that leftovers can be found. */

const NETNS_FOLDER = "/run/netns";
/** `ip` answers in milliseconds; one that does not is stuck in the kernel. */
const IP_TIMEOUT_MS = 10_000;

export interface Lan {
  readonly bridge: string;
  readonly gateway: AddressPair;
  readonly v4Bits: number;
  readonly v6Bits: number;
}

export function namespacePath(name: string): string {
  return `${NETNS_FOLDER}/${name}`;
}

export async function createBridge(lan: Lan): Promise<void> {
  const { bridge, gateway, v4Bits, v6Bits } = lan;
  await ipBatch([
    `link add ${bridge} type bridge forward_delay 0 mcast_snooping 0`,
    `addr add ${gateway.v4}/${v4Bits} dev ${bridge}`,
    ...(gateway.v6 === undefined ? [] : [`addr add ${gateway.v6}/${v6Bits} dev ${bridge} nodad`]),
    `link set ${bridge} up`,
  ]);
}

/** A namespace whose eth0 hangs on the bridge. `veth` is the name of the end on the bridge. */
export async function createNamespace(name: string, veth: string, address: AddressPair, lan: Lan): Promise<void> {
  await ipBatch([
    `netns add ${name}`,
    `link add ${veth} type veth peer name eth0 netns ${name}`,
    `link set ${veth} master ${lan.bridge} up`,
  ]);
  await ipBatch(
    [
      "link set lo up",
      `addr add ${address.v4}/${lan.v4Bits} dev eth0`,
      ...(address.v6 === undefined ? [] : [`addr add ${address.v6}/${lan.v6Bits} dev eth0 nodad`]),
      "link set eth0 up",
      `route add default via ${lan.gateway.v4}`,
      ...(lan.gateway.v6 === undefined ? [] : [`route add ::/0 via ${lan.gateway.v6}`]),
    ],
    name,
  );
}

/** Does nothing when it is gone already. A link of it (`deleteLink`) goes at once, with the namespace only some time later. */
export async function deleteNamespace(name: string): Promise<void> {
  if (existsSync(namespacePath(name))) await ip(["netns", "del", name]);
}

export async function deleteLink(name: string): Promise<void> {
  if (existsSync(`/sys/class/net/${name}`)) await ip(["link", "del", name]);
}

export function ip(args: readonly string[]): Promise<string> {
  return run("ip", args);
}

async function ipBatch(commands: readonly string[], namespace?: string): Promise<void> {
  await run("ip", [...(namespace === undefined ? [] : ["-n", namespace]), "-batch", "-"], `${commands.join("\n")}\n`);
}

/** Output of a command; an Error that holds its complaint when it fails. */
export function run(command: string, args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { timeout: IP_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      reject(new Error(`${command} ${args.join(" ")}: ${stderr.trim() || error.message}`));
    });
    // A child that ends before it has read everything says so by its exit status.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
