import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Log, MeshError, messageOf } from "@tulle/base";
import { type AuthorityOptions, type AuthorityPem, CertificateAuthority, watchFiles } from "@tulle/pki";
import type { AuthoritySource } from "./authority-source.ts";

export interface PluggedInOptions {
  /** Where the Secret `cacerts` is mounted. */
  readonly directory: string;
  readonly authority: AuthorityOptions;
  readonly log: Log;
  /** Default 100 ms, 30 s. */
  readonly debounceMs?: number;
  readonly pollMs?: number;
}

/** File names of the two layouts, by what they hold (control-plane.md §4.3). */
const ISTIO = {
  certificate: "ca-cert.pem",
  privateKey: "ca-key.pem",
  roots: "root-cert.pem",
  chain: "cert-chain.pem",
} as const;
const KUBERNETES = { certificate: "tls.crt", privateKey: "tls.key", roots: "ca.crt", chain: undefined } as const;
type Layout = typeof ISTIO | typeof KUBERNETES;

const DEBOUNCE_MS = 100;
const MAX_FILE_BYTES = 1024 * 1024;

/**
 * An authority from files. Undefined: there is none of them. Rejects with MeshError `INCOMPLETE_AUTHORITY` when some are
 * missing, `BAD_AUTHORITY` when they do not fit together. A new intermediate under the same roots is taken over while the
 * process runs; other roots are refused, because proxies that know only the old ones would be cut off.
 */
export async function pluggedInAuthority(options: PluggedInOptions): Promise<AuthoritySource | undefined> {
  const { directory, log } = options;
  const first = await readBundle(directory);
  if (first === undefined) return undefined;
  const origin = `files in ${directory}`;
  const source = new PluggedIn(options, origin, first);
  log.info("the authority was read from files", { origin, expires: source.current().certificate.validTo });
  return source;
}

class PluggedIn implements AuthoritySource {
  readonly origin: string;
  readonly #options: PluggedInOptions;
  readonly #listeners = new Set<() => void>();
  readonly #watch: { close(): void };
  #authority: CertificateAuthority;
  /** Of the files that were looked at last, whether they were good or not. */
  #digest: string;
  #reading = Promise.resolve();

  constructor(options: PluggedInOptions, origin: string, bundle: AuthorityPem) {
    const { directory, log, debounceMs = DEBOUNCE_MS, pollMs } = options;
    this.origin = origin;
    this.#options = options;
    this.#authority = CertificateAuthority.fromPem(bundle, options.authority);
    this.#digest = digestOf(bundle);
    const paths = [ISTIO, KUBERNETES].flatMap((layout) => filesOf(layout).map((name) => join(directory, name)));
    this.#watch = watchFiles({
      paths,
      debounceMs,
      ...(pollMs === undefined ? {} : { pollMs }),
      log,
      onChange: () => {
        this.#reading = this.#reading.then(() => this.#reload());
      },
    });
  }

  current(): CertificateAuthority {
    return this.#authority;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#watch.close();
    this.#listeners.clear();
  }

  async #reload(): Promise<void> {
    const { directory, authority, log } = this.#options;
    try {
      const bundle = await readBundle(directory);
      if (bundle === undefined) throw new Error("the files are gone");
      const digest = digestOf(bundle);
      if (digest === this.#digest) return;
      this.#digest = digest;
      const next = CertificateAuthority.fromPem(bundle, authority);
      if (!sameRoots(this.#authority, next)) {
        throw new Error(
          "the roots are others than before, and exchanging them while the mesh runs is not supported: " +
            "put the old root-cert.pem back, or restart the control plane and then every proxy",
        );
      }
      this.#authority = next;
      log.info("another signing certificate is in use", { origin: this.origin, expires: next.certificate.validTo });
      for (const listener of this.#listeners) listener();
    } catch (error) {
      log.error("the changed authority files are not used, the old ones stay", { error: messageOf(error) });
    }
  }
}

async function readBundle(directory: string): Promise<AuthorityPem | undefined> {
  const found = await Promise.all([ISTIO, KUBERNETES].map((layout) => readLayout(directory, layout)));
  const complete = found.find((one) => one.bundle !== undefined);
  if (complete !== undefined) return complete.bundle;
  const partial = found.find((one) => one.present.length > 0);
  if (partial === undefined) return undefined;
  const { present, missing } = partial;
  const text = `${directory} holds ${present.join(", ")}, but not ${missing.join(", ")}: add what is missing, or take the rest away`;
  throw new MeshError(text, { code: "INCOMPLETE_AUTHORITY", side: "internal" });
}

async function readLayout(directory: string, layout: Layout) {
  const contents = new Map<string, string>();
  for (const name of filesOf(layout)) {
    const text = await readIfThere(join(directory, name));
    if (text !== undefined) contents.set(name, text);
  }
  const present = [...contents.keys()];
  const missing = filesOf(layout).filter((name) => !contents.has(name));
  const certificatePem = contents.get(layout.certificate);
  const privateKeyPem = contents.get(layout.privateKey);
  const rootsPem = contents.get(layout.roots);
  if (missing.length > 0 || certificatePem === undefined || privateKeyPem === undefined || rootsPem === undefined) {
    return { present, missing, bundle: undefined };
  }
  // In tls.crt the chain follows the certificate.
  const chainPem = layout.chain === undefined ? certificatePem : (contents.get(layout.chain) ?? "");
  return { present, missing, bundle: { certificatePem, privateKeyPem, rootsPem, chainPem } };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, "utf8");
    if (text.length > MAX_FILE_BYTES) throw new Error(`${path} is larger than ${MAX_FILE_BYTES} bytes`);
    return text;
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) {
      return undefined;
    }
    throw error;
  }
}

function filesOf(layout: Layout): string[] {
  return Object.values(layout).filter((name) => name !== undefined);
}

function digestOf({ certificatePem, privateKeyPem, rootsPem, chainPem = "" }: AuthorityPem): string {
  return hash("sha256", [certificatePem, privateKeyPem, rootsPem, chainPem].join("\0"));
}

function sameRoots(a: CertificateAuthority, b: CertificateAuthority): boolean {
  const { roots } = a.trustBundle;
  return roots.length === b.trustBundle.roots.length && roots.every((root) => b.trustBundle.includes(root));
}
