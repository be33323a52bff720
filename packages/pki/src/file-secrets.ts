import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import {
  type Clock,
  formatIdentity,
  type Identity,
  type Log,
  MeshError,
  messageOf,
  silentLog,
  systemClock,
} from "@tulle/base";
import { type FileWatch, watchFiles } from "./file-watch.ts";
import type { CertificateListener, IdentityStore, SecretEntry, SecretState } from "./identity-store.ts";
import { PrivateKey } from "./private-key.ts";
import { TrustBundle } from "./trust-bundle.ts";
import { parseCertificates } from "./certificate.ts";
import { WorkloadCertificate } from "./workload-certificate.ts";

/** One identity's files, all PEM. */
export interface SecretFiles {
  readonly identity: Identity;
  /** Leaf first, then intermediates. */
  readonly certificateChain: string;
  readonly privateKey: string;
  /** One or more roots. */
  readonly roots: string;
}

export interface FileSecretsOptions {
  readonly files: readonly SecretFiles[];
  /** How long the directory must be quiet before the files are read again. Default 2 s. */
  readonly debounceMs?: number;
  readonly clock?: Clock;
  readonly log?: Log;
}

interface Entry {
  readonly files: SecretFiles;
  readonly uri: string;
  /** Digest of the files that are in use, so that nothing happens when nothing changed. */
  digest: string;
  state: SecretState;
}

/**
 * Certificates from files instead of an authority. Files that cannot be used leave the last good ones in place (until they
 * expire); a certificate of another identity is never used.
 */
export class FileSecrets implements IdentityStore {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #entries: Map<string, Entry>;
  readonly #listeners = new Set<CertificateListener>();
  readonly #watch: FileWatch;
  #reading: Promise<void>;

  constructor(options: FileSecretsOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLog;
    this.#entries = new Map(
      options.files.map((files) => {
        const uri = formatIdentity(files.identity);
        return [uri, { files, uri, digest: "", state: { kind: "initializing" } }];
      }),
    );
    this.#reading = this.#readAll();
    this.#watch = watchFiles({
      paths: options.files.flatMap((files) => [files.certificateChain, files.privateKey, files.roots]),
      onChange: () => void this.reload(),
      log: this.#log,
      ...(options.debounceMs === undefined ? {} : { debounceMs: options.debounceMs }),
    });
  }

  async get(identity: Identity): Promise<WorkloadCertificate> {
    const uri = formatIdentity(identity);
    const entry = this.#entries.get(uri);
    if (entry === undefined) throw unavailable(`no certificate files are configured for ${uri}`);
    if (entry.state.kind === "initializing") await this.#reading;
    const certificate = this.current(identity);
    if (certificate !== undefined) return certificate;
    throw unavailable(
      entry.state.kind === "unavailable" ? entry.state.reason : `the certificate file of ${uri} has expired`,
    );
  }

  current(identity: Identity): WorkloadCertificate | undefined {
    const state = this.#entries.get(formatIdentity(identity))?.state;
    return state?.kind === "available" && state.certificate.notAfter > this.#clock.wall()
      ? state.certificate
      : undefined;
  }

  /** Files are read anyway. */
  warm(): void {}

  /** Files stay configured. */
  forget(): void {}

  entries(): SecretEntry[] {
    return [...this.#entries.values()]
      .sort((a, b) => (a.uri < b.uri ? -1 : 1))
      .map(({ files, uri, state }) => ({ identity: files.identity, uri, state }));
  }

  subscribe(listener: CertificateListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads the files now. Never rejects. */
  reload(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#readAll());
    return this.#reading;
  }

  close(): void {
    this.#watch.close();
    this.#listeners.clear();
  }

  async #readAll(): Promise<void> {
    for (const entry of this.#entries.values()) await this.#read(entry);
  }

  async #read(entry: Entry): Promise<void> {
    try {
      const { certificateChain, privateKey, roots } = entry.files;
      const [chainPem = "", keyPem = "", rootsPem = ""] = await Promise.all(
        [certificateChain, privateKey, roots].map((path) => readFile(path, "utf8")),
      );
      const digest = hash("sha256", [chainPem, keyPem, rootsPem].join("\0"));
      if (digest === entry.digest) return;
      const certificate = this.#certificateOf(entry.files.identity, chainPem, keyPem, rootsPem);
      entry.digest = digest;
      entry.state = { kind: "available", certificate };
      this.#log.info("certificate files read", { identity: entry.uri, serialNumber: certificate.serialNumber });
      for (const listener of this.#listeners) listener(entry.files.identity, certificate);
    } catch (error) {
      const reason = messageOf(error);
      this.#log.warn("certificate files cannot be used", { identity: entry.uri, error: reason });
      if (entry.state.kind !== "available") entry.state = { kind: "unavailable", reason };
    }
  }

  #certificateOf(identity: Identity, chainPem: string, keyPem: string, rootsPem: string): WorkloadCertificate {
    const problem = TrustBundle.fromPem(rootsPem).problemWith(parseCertificates(chainPem), this.#clock.wall());
    if (problem !== undefined) throw new Error(problem);
    return WorkloadCertificate.create({ identity, privateKey: PrivateKey.fromPem(keyPem), chainPem, rootsPem });
  }
}

function unavailable(reason: string): MeshError {
  return new MeshError(reason, { code: "IDENTITY_UNAVAILABLE", side: "internal" });
}
