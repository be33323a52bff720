import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { UserError } from "./user-error.ts";

const TOOLS = ["ip", "nft", "nsenter", "unshare", "setpriv", "mount", "chroot"];

/** What the machine must have. Throws UserError with what to do. */
export function checkMachine(): void {
  if (process.getuid?.() !== 0) {
    throw new UserError("the local mesh needs root, because it makes network namespaces: run it with sudo");
  }
  const path = (process.env.PATH ?? "").split(delimiter);
  const missing = TOOLS.filter((tool) => !path.some((folder) => existsSync(join(folder, tool))));
  if (missing.length > 0) {
    throw new UserError(
      `missing: ${missing.join(", ")}; install them with: apt-get install iproute2 nftables util-linux coreutils`,
    );
  }
}

/** With br_netfilter a machine's firewall also sees what its bridges carry; what it drops there, pods cannot reach. */
export function firewallNote(bridge: string): string | undefined {
  const filtered = ["iptables", "ip6tables"].some((which) => {
    const path = `/proc/sys/net/bridge/bridge-nf-call-${which}`;
    return existsSync(path) && readFileSync(path, "utf8").trim() === "1";
  });
  if (!filtered) return undefined;
  return `! this machine's firewall filters bridged packets: if pods do not reach each other, allow ${bridge} in its FORWARD chain`;
}
