import { existsSync } from "node:fs";
import { type LabNamespace, run } from "@tulle/lab";
import type { AddressPair } from "../objects/addresses.ts";

/** The one network of the mesh: a bridge in the host's namespace, nodes and pods on it. */
export interface Lan {
  readonly bridge: string;
  readonly gateway: AddressPair;
  readonly v4Bits: number;
  readonly v6Bits: number;
}

/** Whatever a crashed mesh left under this name goes first. */
export async function createBridge(lan: Lan): Promise<void> {
  const { bridge, gateway, v4Bits, v6Bits } = lan;
  await deleteLink(bridge);
  await ip([
    `link add ${bridge} address ${linkAddress(gateway.v4)} type bridge forward_delay 0 mcast_snooping 0`,
    `addr add ${gateway.v4}/${v4Bits} dev ${bridge}`,
    ...(gateway.v6 === undefined ? [] : [`addr add ${gateway.v6}/${v6Bits} dev ${bridge} nodad`]),
    `link set ${bridge} up`,
  ]);
}

/** Gives a namespace an eth0 on the bridge. `veth` names the other end, on the bridge. */
export async function attach(namespace: LabNamespace, veth: string, address: AddressPair, lan: Lan): Promise<void> {
  await deleteLink(veth);
  await ip([
    `link add ${veth} type veth peer name eth0 netns ${namespace.name}`,
    `link set ${veth} master ${lan.bridge} up`,
  ]);
  await namespace.ip([
    `addr add ${address.v4}/${lan.v4Bits} dev eth0`,
    ...(address.v6 === undefined ? [] : [`addr add ${address.v6}/${lan.v6Bits} dev eth0 nodad`]),
    "link set eth0 up",
    `route add default via ${lan.gateway.v4}`,
    ...(lan.gateway.v6 === undefined ? [] : [`route add ::/0 via ${lan.gateway.v6}`]),
  ]);
}

/**
 * Left to itself, a bridge takes the lowest address of its ports, so another one whenever a pod goes: for some twenty seconds
 * pods would send to the gateway, which serves their DNS, under the old one. Locally administered (IEEE 802 §8.4).
 */
function linkAddress(ip: string): string {
  return ["02", "74", ...ip.split(".").map((part) => Number(part).toString(16).padStart(2, "0"))].join(":");
}

/** Does nothing when it is gone already. The end in a namespace goes with it at once, unlike with the namespace. */
export async function deleteLink(name: string): Promise<void> {
  if (existsSync(`/sys/class/net/${name}`)) await run("ip", ["link", "delete", name]);
}

async function ip(commands: readonly string[]): Promise<void> {
  await run("ip", ["-batch", "-"], { input: `${commands.join("\n")}\n` });
}
