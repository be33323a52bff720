import { canonicalIp, isIpv6, parsePort } from "@tulle/base";
import { NetNamespace } from "../net-namespace.ts";
import { rulesOverview } from "../netlink/netfilter.ts";
import { run } from "./command.ts";
import { canonicalRuleset } from "./nftables.ts";

/**
 * Rules in the host's network namespace that give the kubelet's probes a source address by which pods know them (spec:
 * l4-ztunnel §1.10). As narrow as the kernel allows: only sockets of the kubelet's user, in the kubelet's control group
 * where there is one of its own, and only to declared probe ports.
 */
export interface HostProbeOptions {
  /** Source addresses that probes get, at most one of each family. */
  readonly sources: readonly string[];
  /** The kubelet's user. */
  readonly uid: number;
  /** The kubelet's control group below /sys/fs/cgroup (version 2), as `system.slice/kubelet.service`; undefined: not known. */
  readonly cgroup: string | undefined;
  readonly targets: readonly ProbeTarget[];
}

export interface ProbeTarget {
  readonly ip: string;
  readonly port: number;
}

export interface HostProbeState {
  /** Equal texts: equal rules and targets. */
  readonly text: string;
  readonly targets: readonly ProbeTarget[];
}

export const HOST_TABLE = "inet tulle-node";
/** Before kube-proxy's and the network plugin's masquerading (100): the first translation of a connection counts. */
const PRIORITY = 95;
/** Before any nat: what the kubelet's socket asked for. */
const OUTPUT_PRIORITY = -150;
/** From the output hook to postrouting a packet takes no time; its first retransmissions follow within seconds. */
const FLOW_SECONDS = 30;
const MAX_FLOWS = 65_535;
/** Letters that occur in names of slices and scopes: no way out of nft's quotes. */
const CGROUP = /^[A-Za-z0-9_.:@-]+(\/[A-Za-z0-9_.:@-]+)*$/;
const MAX_CGROUP_DEPTH = 32;
const OPENING = "tcp flags & (fin | syn | rst | ack) == syn";

/** Puts exactly these rules and targets in force, in one transaction. Throws CommandError, or RangeError for bad options. */
export async function applyHostProbes(namespace: string, options: HostProbeOptions): Promise<void> {
  await run("nft", ["-f", "-"], { namespace, input: hostProbeTransaction(options) });
}

/** What is in force; undefined: nothing. Throws CommandError. */
export async function readHostProbes(namespace: string): Promise<HostProbeState | undefined> {
  using entered = NetNamespace.open(namespace);
  if (!rulesOverview(entered).tables.includes(HOST_TABLE)) return undefined;
  const listing = await run("nft", ["-j", "list", "table", ...HOST_TABLE.split(" ")], { namespace });
  const items = canonicalRuleset(listing).filter(({ label }) => !label.startsWith("set kubelet-"));
  return { text: items.map(({ text }) => text).join("\n"), targets: targetsOf(listing) };
}

/** Idempotent. Throws CommandError. */
export async function removeHostProbes(namespace: string): Promise<void> {
  await run("nft", ["-f", "-"], { namespace, input: `add table ${HOST_TABLE}\ndelete table ${HOST_TABLE}\n` });
}

/** Whether rules can name a control group (relative to its hierarchy's root): not all names, and not at any depth. */
export function isNameableCgroup(path: string): boolean {
  return CGROUP.test(path) && !/(^|\/)\.\.?(\/|$)/.test(path) && path.split("/").length <= MAX_CGROUP_DEPTH;
}

/** The text for `nft -f`. Exported for tests. */
export function hostProbeTransaction(options: HostProbeOptions): string {
  const { uid, cgroup } = options;
  if (!Number.isInteger(uid) || uid < 0) throw new RangeError(`${uid} is no user`);
  if (cgroup !== undefined && !isNameableCgroup(cgroup)) {
    throw new RangeError(`${JSON.stringify(cgroup)} is no control group`);
  }
  const depth = cgroup?.split("/").length ?? 0;
  const sources = options.sources.map(ipOf);
  const sets: string[] = [];
  const output: string[] = [];
  const postrouting: string[] = [];
  for (const source of sources) {
    const [version, family] = isIpv6(source) ? (["v6", "ip6"] as const) : (["v4", "ip"] as const);
    const address = version === "v6" ? "ipv6_addr" : "ipv4_addr";
    const elements = elementsOf(options.targets, version === "v6");
    sets.push(`  set probes-${version} {\n    type ${address} . inet_service\n${elements}  }`);
    const target = `${family} daddr . tcp dport @probes-${version}`;
    const snat = `counter snat ${family} to ${source} comment "probes of the kubelet"`;
    if (cgroup === undefined) {
      postrouting.push(`    meta skuid ${uid} ${OPENING} ${target} ${snat}`);
      continue;
    }
    // Which control group a socket is in can be asked on output only, and its address is changed after routing only.
    const flow = `${family} saddr . tcp sport . ${family} daddr . tcp dport`;
    sets.push(
      `  set kubelet-${version} {\n    type ${address} . inet_service . ${address} . inet_service\n` +
        `    size ${MAX_FLOWS}\n    flags dynamic,timeout\n    timeout ${FLOW_SECONDS}s\n  }`,
    );
    const kubelet = `meta skuid ${uid} socket cgroupv2 level ${depth} "${cgroup}"`;
    output.push(
      `    ${kubelet} ${OPENING} ${target} update @kubelet-${version} { ${flow} } comment "the kubelet's own"`,
    );
    postrouting.push(`    meta skuid ${uid} ${OPENING} ${target} ${flow} @kubelet-${version} ${snat}`);
  }
  return `${[
    `add table ${HOST_TABLE}`,
    `delete table ${HOST_TABLE}`,
    `table ${HOST_TABLE} {`,
    ...sets,
    ...(output.length === 0
      ? []
      : [
          "  chain output {",
          `    type filter hook output priority ${OUTPUT_PRIORITY}; policy accept;`,
          ...output,
          "  }",
        ]),
    "  chain postrouting {",
    `    type nat hook postrouting priority ${PRIORITY}; policy accept;`,
    ...postrouting,
    "  }",
    "}",
  ].join("\n")}\n`;
}

function elementsOf(targets: readonly ProbeTarget[], v6: boolean): string {
  const texts = targets.flatMap(({ ip, port }) => {
    const canonical = ipOf(ip);
    if (!parsePort(String(port))) throw new RangeError(`${port} is no port`);
    return isIpv6(canonical) === v6 ? [`${canonical} . ${port}`] : [];
  });
  const unique = [...new Set(texts)].sort();
  return unique.length === 0 ? "" : `    elements = { ${unique.join(", ")} }\n`;
}

function ipOf(text: string): string {
  const ip = canonicalIp(text);
  if (ip === undefined) throw new RangeError(`${JSON.stringify(text)} is no address`);
  return ip;
}

/** Elements are `{ concat: [ip, port] }` in nft's JSON. */
function targetsOf(listing: string): ProbeTarget[] {
  interface Listed {
    readonly set?: { readonly name: string; readonly elem?: readonly { readonly concat?: readonly unknown[] }[] };
  }
  const { nftables } = JSON.parse(listing) as { readonly nftables: readonly Listed[] };
  return nftables.flatMap(({ set }) => {
    if (set === undefined || !set.name.startsWith("probes-")) return [];
    return (set.elem ?? []).flatMap(({ concat = [] }) => {
      const [ip, port] = concat;
      return typeof ip === "string" && typeof port === "number" ? [{ ip, port }] : [];
    });
  });
}
