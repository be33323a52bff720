import { existsSync } from "node:fs";
import { LabNamespace } from "./lab-namespace.ts";
import { run } from "./command.ts";
import { removeLeftovers } from "./owner.ts";

export interface LabOptions {
  /** Whether hosts get IPv6 addresses. Default: whether this machine has IPv6. */
  readonly ipv6?: boolean;
}

/** A namespace on the lab's network, with a default route to the fabric. */
export interface LabHost {
  readonly namespace: LabNamespace;
  /** The device on the lab's network, the same in every host. */
  readonly device: string;
  readonly v4: string;
  /** Undefined in a lab without IPv6. */
  readonly v6: string | undefined;
}

/** One end of a link. The device's name has at most 15 characters (IFNAMSIZ). */
export interface LinkEnd {
  readonly namespace: LabNamespace;
  readonly device: string;
  /** With prefix length: `10.0.0.1/24`, `fd00::1/64`. */
  readonly addresses?: readonly string[];
}

/** Private ranges that exist only inside the lab's own namespaces, so every lab can use the same. */
const V4_PREFIX = "10.96";
const V6_PREFIX = "fd96::";
const V4_BITS = 16;
const V6_BITS = 64;
/** The fabric's own address is the hosts' gateway. */
const GATEWAY = { v4: `${V4_PREFIX}.255.254`, v6: `${V6_PREFIX}ffff` };
const BRIDGE = "bridge0";
/** One of its own, or it takes its ports' lowest: hosts that come or go would change it, and the others send to the old one. */
const BRIDGE_ADDRESS = "02:74:00:00:00:01";
const HOST_DEVICE = "eth0";
/** The last host number whose address stays clear of the gateway's. */
const MAX_HOSTS = 254 * 254;

/**
 * A network of namespaces: hosts on one bridge, which stands in a namespace of its own, so that nothing of it touches the
 * machine's own network, and deleting the namespaces deletes all. Needs root. `await using lab = await Lab.create()`.
 */
export class Lab implements AsyncDisposable {
  /** The namespace with the bridge: a place for "the node", its address is every host's gateway. */
  readonly fabric: LabNamespace;
  /** The bridge's device in the fabric, for captures of everything that passes. */
  readonly bridge = BRIDGE;
  readonly gateway: { readonly v4: string; readonly v6: string | undefined };
  readonly #namespaces: LabNamespace[] = [];
  #hosts = 0;

  private constructor(fabric: LabNamespace, ipv6: boolean) {
    this.fabric = fabric;
    this.gateway = { v4: GATEWAY.v4, v6: ipv6 ? GATEWAY.v6 : undefined };
  }

  /** Also removes what crashed labs have left. Throws CommandError (not root, no `ip`). */
  static async create(options: LabOptions = {}): Promise<Lab> {
    const { ipv6 = existsSync("/proc/sys/net/ipv6") } = options;
    await removeLeftovers();
    const lab = new Lab(await LabNamespace.create("fabric"), ipv6);
    try {
      await lab.fabric.ip([
        `link add ${BRIDGE} address ${BRIDGE_ADDRESS} type bridge forward_delay 0 mcast_snooping 0`,
        `link set ${BRIDGE} up`,
        `addr add ${GATEWAY.v4}/${V4_BITS} dev ${BRIDGE}`,
        ...(ipv6 ? [`addr add ${GATEWAY.v6}/${V6_BITS} dev ${BRIDGE} nodad`] : []),
      ]);
      return lab;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** A namespace that is deleted with the lab, connected to nothing. */
  async namespace(label: string): Promise<LabNamespace> {
    const namespace = await LabNamespace.create(label);
    this.#namespaces.push(namespace);
    return namespace;
  }

  /** A namespace on the lab's network, with the next free addresses. */
  async host(label: string): Promise<LabHost> {
    const number = ++this.#hosts;
    if (number > MAX_HOSTS) throw new RangeError(`a lab has at most ${MAX_HOSTS} hosts`);
    const namespace = await this.namespace(label);
    const v4 = `${V4_PREFIX}.${Math.floor(number / 254)}.${(number % 254) + 1}`;
    const v6 = this.gateway.v6 === undefined ? undefined : `${V6_PREFIX}${number.toString(16)}`;
    const port = `host${number}`;
    await this.fabric.ip([
      `link add ${port} type veth peer name ${HOST_DEVICE} netns ${namespace.name}`,
      `link set ${port} master ${BRIDGE} up`,
    ]);
    await namespace.ip([
      `addr add ${v4}/${V4_BITS} dev ${HOST_DEVICE}`,
      ...(v6 === undefined ? [] : [`addr add ${v6}/${V6_BITS} dev ${HOST_DEVICE} nodad`]),
      `link set ${HOST_DEVICE} up`,
      `route add default via ${GATEWAY.v4}`,
      ...(v6 === undefined ? [] : [`route add ::/0 via ${GATEWAY.v6}`]),
    ]);
    return { namespace, device: HOST_DEVICE, v4, v6 };
  }

  /** Joins two namespaces by a veth pair, both ends up. */
  async link(a: LinkEnd, b: LinkEnd): Promise<void> {
    await a.namespace.ip([`link add ${a.device} type veth peer name ${b.device} netns ${b.namespace.name}`]);
    for (const { namespace, device, addresses = [] } of [a, b]) {
      await namespace.ip([
        ...addresses.map((address) => `addr add ${address} dev ${device}${address.includes(":") ? " nodad" : ""}`),
        `link set ${device} up`,
      ]);
    }
  }

  /** Takes a host off the network (`false`) and puts it back. What it sends meanwhile is lost without an answer. */
  async connected(host: LabHost, connected: boolean): Promise<void> {
    const port = await this.#portOf(host);
    await this.fabric.ip([`link set ${port} ${connected ? "up" : "down"}`]);
  }

  /** Deletes every namespace of the lab, the last one first. Idempotent. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const namespace of [this.fabric, ...this.#namespaces].toReversed()) {
      await namespace.delete().catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0)
      throw new AggregateError(errors, `${errors.length} namespaces of the lab could not be deleted`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #portOf(host: LabHost): Promise<string> {
    const links = JSON.parse(await run("ip", ["-n", host.namespace.name, "-j", "link", "show", host.device]));
    const index = (links as readonly { link_index: number }[])[0]?.link_index;
    const ports = JSON.parse(await run("ip", ["-n", this.fabric.name, "-j", "link"]));
    const port = (ports as readonly { ifindex: number; ifname: string }[]).find(({ ifindex }) => ifindex === index);
    if (port === undefined) throw new Error(`${host.namespace.label} is not on the lab's network`);
    return port.ifname;
  }
}
