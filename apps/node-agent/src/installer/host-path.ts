/**
 * The host's path of a folder that is mounted into this container, from the kernel's lists of mounts: the host's is that
 * of process 1, which a container with hostPID sees. Undefined when it cannot be told.
 */
export function hostPathOf(mounted: string, read: (file: string) => string): string | undefined {
  try {
    const here = mountsOf(read("/proc/self/mountinfo")).findLast((mount) => mount.point === mounted);
    if (here === undefined) return undefined;
    const candidates = mountsOf(read("/proc/1/mountinfo"))
      .filter((mount) => mount.device === here.device && isBelow(here.root, mount.root))
      .toSorted((a, b) => b.root.length - a.root.length);
    const best = candidates[0];
    // Process 1 that has our own mounts is no host's.
    if (best === undefined || best.point === mounted) return undefined;
    const rest = here.root.slice(best.root === "/" ? 0 : best.root.length);
    return `${best.point === "/" ? "" : best.point}${rest}` || "/";
  } catch {
    // No such list: the caller has a default.
    return undefined;
  }
}

interface Mount {
  /** `major:minor`. */
  readonly device: string;
  /** Which folder of that file system. */
  readonly root: string;
  readonly point: string;
}

/** proc_pid_mountinfo(5): id, parent, device, root, mount point, …; later mounts hide earlier ones. */
function mountsOf(text: string): Mount[] {
  return text
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => fields.length > 5)
    .map(([, , device = "", root = "", point = ""]) => ({ device, root: unescaped(root), point: unescaped(point) }));
}

function isBelow(path: string, folder: string): boolean {
  return folder === "/" || path === folder || path.startsWith(`${folder}/`);
}

function unescaped(path: string): string {
  return path.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
