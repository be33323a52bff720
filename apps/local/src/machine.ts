import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { UserError } from "./user-error.ts";

const TOOLS = ["ip", "nft", "nsenter", "unshare", "setpriv", "prlimit", "mount", "chroot"];

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

/** A reason why pods may not reach each other, empty when there is none: with br_netfilter the firewall sees what bridges carry. */
export function firewallHint(bridge: string): string {
  const filtered = ["iptables", "ip6tables"].some((which) => {
    const path = `/proc/sys/net/bridge/bridge-nf-call-${which}`;
    return existsSync(path) && readFileSync(path, "utf8").trim() === "1";
  });
  return filtered
    ? `\n  This machine's firewall filters bridged packets: does its FORWARD chain accept those of ${bridge}?`
    : "";
}
