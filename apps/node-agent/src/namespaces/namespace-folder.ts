import { lstatSync, readdirSync } from "node:fs";
import { join, posix } from "node:path";
import { canonicalIp, MeshError, messageOf } from "@tulle/base";
import { currentNamespaceKey, namespaceAddresses, NetNamespace } from "@tulle/linux";

/** A pod's network namespace, held open. */
export interface PodNamespace {
  readonly namespace: NetNamespace;
  /** Its file in the runtime's folder. */
  readonly file: string;
}

export interface NamespaceFolderOptions {
  /** Where the container runtime keeps the pods' network namespaces. */
  readonly folder: string;
  /** How the runtime may call the same folder. Default: only as we do. */
  readonly aliases?: readonly string[];
  /** The host's network namespace: never a pod's. */
  readonly hostNamespace: string;
}

/** `code` is NAMESPACE_REFUSED: what was handed in is not the namespace of this pod. */
export class NamespaceRefused extends MeshError {
  constructor(message: string) {
    super(message, { code: "NAMESPACE_REFUSED", side: "internal" });
    this.name = "NamespaceRefused";
  }
}

interface Seen {
  readonly file: string;
  readonly key: string;
  readonly addresses: readonly string[];
}

/** What runtimes and `ip netns` call their files: no way out of the folder. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/;
/** Pods of a node, several times over. */
const MAX_FILES = 4096;
/** Pods that are looked for at the same moment share a look; what is found is checked again when it is opened. */
const SCAN_VALID_MS = 200;

/** The folder in which the container runtime keeps network namespaces: the only place from which one is taken. */
export class NamespaceFolder {
  readonly #options: NamespaceFolderOptions;
  readonly #forbidden: ReadonlySet<string>;
  #scan: { readonly at: number; readonly seen: readonly Seen[] } | undefined;

  /** Throws SystemError when the host's namespace cannot be opened. */
  constructor(options: NamespaceFolderOptions) {
    this.#options = options;
    using host = NetNamespace.open(options.hostNamespace);
    this.#forbidden = new Set([host.key, currentNamespaceKey()]);
  }

  /**
   * Opens a namespace that somebody else names: it must lie in the folder, be a network namespace, be neither the host's nor
   * our own, and hold every one of these addresses (at least one). Throws NamespaceRefused.
   */
  openHandedIn(path: string, ips: readonly string[]): PodNamespace {
    const { folder, aliases = [folder] } = this.#options;
    const name = posix.basename(path);
    if (!aliases.includes(posix.dirname(path)) || path !== `${posix.dirname(path)}/${name}` || !FILE_NAME.test(name)) {
      throw new NamespaceRefused(`${JSON.stringify(path)} is no file in ${aliases.join(" or ")}`);
    }
    return this.#open(join(folder, name), ips);
  }

  /**
   * The namespace that holds every one of these addresses; undefined: none does. Throws NamespaceRefused when several do,
   * because nobody could say which is the pod's.
   */
  find(ips: readonly string[]): PodNamespace | undefined {
    if (ips.length === 0) return undefined;
    const wanted = ips.map((ip) => canonicalIp(ip) ?? ip);
    const holding = (seen: readonly Seen[]) =>
      seen.filter(({ addresses }) => wanted.every((ip) => addresses.includes(ip)));
    let holders = holding(this.#look(SCAN_VALID_MS));
    // It may have been made since that look.
    if (holders.length === 0) holders = holding(this.#look(0));
    if (new Set(holders.map(({ key }) => key)).size > 1) {
      const files = holders.map(({ file }) => file).join(", ");
      throw new NamespaceRefused(`several network namespaces hold ${ips.join(", ")}: ${files}`);
    }
    const [holder] = holders;
    return holder && this.#open(holder.file, ips);
  }

  /** Why an open namespace is no longer that of the pod; undefined: it is. */
  whyNot({ namespace, file }: PodNamespace, ips: readonly string[]): string | undefined {
    try {
      using now = this.#open(file, ips).namespace;
      return now.key === namespace.key ? undefined : `${file} is another namespace by now`;
    } catch (error) {
      return messageOf(error);
    }
  }

  #open(file: string, ips: readonly string[]): PodNamespace {
    const kind = lstatSync(file, { throwIfNoEntry: false });
    if (kind === undefined) throw new NamespaceRefused(`${file} does not exist`);
    // Nothing else is opened: a pipe would wait, a link may lead anywhere. Namespaces look like files.
    if (!kind.isFile()) throw new NamespaceRefused(`${file} is no network namespace`);
    using named = this.#enterable(file);
    // The runtime may unmount the file while we hold what it stands for.
    const namespace = named.withoutFile();
    try {
      if (this.#forbidden.has(namespace.key)) throw new NamespaceRefused(`${file} is the host's network namespace`);
      const present = namespaceAddresses(namespace);
      const missing = ips.filter((ip) => !present.includes(canonicalIp(ip) ?? ip));
      if (missing.length > 0 || ips.length === 0) {
        const wanted = ips.length === 0 ? "any address that was named" : missing.join(", ");
        throw new NamespaceRefused(`${file} does not hold ${wanted} (it holds ${present.join(", ") || "none"})`);
      }
      return { namespace, file };
    } catch (error) {
      namespace.close();
      throw error;
    }
  }

  #enterable(file: string): NetNamespace {
    try {
      return NetNamespace.open(file);
    } catch (error) {
      throw new NamespaceRefused(`${file} is no network namespace that can be entered: ${messageOf(error)}`);
    }
  }

  #look(validMs: number): readonly Seen[] {
    const now = performance.now();
    if (this.#scan !== undefined && now - this.#scan.at < validMs) return this.#scan.seen;
    const seen: Seen[] = [];
    for (const name of this.#names()) {
      const file = join(this.#options.folder, name);
      if (!FILE_NAME.test(name) || lstatSync(file, { throwIfNoEntry: false })?.isFile() !== true) continue;
      try {
        using namespace = NetNamespace.open(file);
        if (this.#forbidden.has(namespace.key)) continue;
        seen.push({ file, key: namespace.key, addresses: namespaceAddresses(namespace) });
      } catch {
        // A file that is left over, or a namespace that has just gone: not this one.
      }
    }
    this.#scan = { at: now, seen };
    return seen;
  }

  #names(): readonly string[] {
    try {
      return readdirSync(this.#options.folder).slice(0, MAX_FILES);
    } catch (error) {
      // The runtime makes the folder with its first pod.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }
}
