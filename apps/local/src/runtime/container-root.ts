import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { AddressPair } from "../objects/addresses.ts";

/** What a pod's processes see instead of the host: a root of their own made of a few read-only mounts. */

/** Where a pod finds the user's directory (read-only) and starts its commands. */
export const APP_FOLDER = "/app";
const NODE_FOLDER = "/opt/node";

/** Files of /etc that describe the machine's libraries and certificates, not its users or its network. */
const HOST_ETC =
  "alternatives ca-certificates ca-certificates.conf ssl pki crypto-policies ld.so.cache ld.so.conf ld.so.conf.d localtime mime.types protocols services gai.conf";

/** Processes and threads of one pod's user: a pod that forks without end must not take the machine with it. */
const MAX_PROCESSES = 2000;

/**
 * Runs as root in new mount, PID, IPC and UTS namespaces, builds the root and gives up everything:
 * $1 empty folder to build in, $2 the pod's own /etc files, $3 the user's folder, $4 Node's binary, $5 uid, $6 host name;
 * then NAME=value pairs, `--`, and the command.
 */
export const LAUNCH_SCRIPT = `
set -e
root=$1 etc=$2 app=$3 node=$4 uid=$5 host=$6; shift 6
hostname "$host"
mount -t tmpfs -o mode=755,size=1m,nosuid tmpfs "$root"
mkdir "$root/proc" "$root/dev" "$root/tmp" "$root/etc" "$root/usr" "$root${APP_FOLDER}" "$root/opt" "$root${NODE_FOLDER}" "$root/run" "$root/var"
mount -o bind,ro,nosuid /usr "$root/usr"
for d in bin sbin lib lib32 lib64; do
  if [ -L /$d ]; then ln -s "$(readlink /$d)" "$root/$d"
  elif [ -d /$d ]; then mkdir "$root/$d"; mount -o bind,ro,nosuid /$d "$root/$d"; fi
done
for f in ${HOST_ETC}; do
  if [ -d /etc/$f ]; then mkdir "$root/etc/$f"
  elif [ -e /etc/$f ]; then : >"$root/etc/$f"
  else continue; fi
  mount -o bind,ro /etc/$f "$root/etc/$f"
done
cp "$etc"/* "$root/etc/"
mount -o bind,ro,nosuid,nodev "$app" "$root${APP_FOLDER}"
[ -z "$node" ] || { : >"$root${NODE_FOLDER}/node"; mount -o bind,ro,nosuid,nodev "$node" "$root${NODE_FOLDER}/node"; }
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev tmpfs "$root/tmp"
for f in null zero full random urandom; do : >"$root/dev/$f"; mount -o bind /dev/$f "$root/dev/$f"; done
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev,noexec tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"; ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"; ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -o remount,ro,nosuid "$root"
exec prlimit --nproc=${MAX_PROCESSES} --core=0 chroot "$root" setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --ambient-caps=-all \\
  --bounding-set=-all --no-new-privs --pdeathsig KILL env -i --chdir=${APP_FOLDER} "$@"
`;

/** Where the command `node` of a pod comes from: the Node that runs the mesh. */
export interface NodeForPods {
  /** A binary to show in /opt/node; empty when /usr holds it anyway. Its folder stays the host's own. */
  readonly binary: string;
  /** The PATH of every pod that does not set its own. */
  readonly path: string;
}

const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export function nodeForPods(execPath: string): NodeForPods {
  return execPath.startsWith("/usr/")
    ? { binary: "", path: `${dirname(execPath)}:${SYSTEM_PATH}` }
    : { binary: execPath, path: `${NODE_FOLDER}:${SYSTEM_PATH}` };
}

export interface EtcOptions {
  readonly podName: string;
  readonly namespace: string;
  readonly address: AddressPair;
  readonly nameserver: string;
  readonly clusterDomain: string;
  readonly uid: number;
}

/** Writes resolv.conf, hosts and the few others that libraries look for, as kubelet and a container runtime would. */
export function writeEtc(folder: string, options: EtcOptions): void {
  const { podName, namespace, address, nameserver, clusterDomain, uid } = options;
  if (!existsSync(folder)) mkdirSync(folder, { recursive: true, mode: 0o755 });
  const put = (name: string, lines: readonly string[]) =>
    writeFileSync(join(folder, name), `${lines.join("\n")}\n`, { mode: 0o644 });
  put("resolv.conf", [
    `search ${namespace}.svc.${clusterDomain} svc.${clusterDomain} ${clusterDomain}`,
    `nameserver ${nameserver}`,
    "options ndots:5",
  ]);
  put("hosts", [
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    `${address.v4} ${podName}`,
    ...(address.v6 === undefined ? [] : [`${address.v6} ${podName}`]),
  ]);
  put("hostname", [podName]);
  put("nsswitch.conf", ["passwd: files", "group: files", "hosts: files dns"]);
  put("passwd", ["root:x:0:0:root:/:/bin/false", `app:x:${uid}:${uid}:app:/tmp:/bin/false`]);
  put("group", ["root:x:0:", `app:x:${uid}:`]);
}
