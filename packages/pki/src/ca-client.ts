import { Code, ConnectError } from "@connectrpc/connect";
import { ca } from "@tulle/api";
import { formatIdentity, type Identity, type Log, MeshError, messageOf, silentLog } from "@tulle/base";
import { createCsr } from "./csr.ts";
import { type FileWatch, watchFiles } from "./file-watch.ts";
import { type GrpcChannel, type GrpcChannelOptions, openGrpcChannel } from "./grpc-channel.ts";
import { fromPem, toPem } from "./pem.ts";
import { PrivateKey } from "./private-key.ts";
import { readRoots } from "./roots.ts";
import type { CertificateSource } from "./secret-manager.ts";
import { WorkloadCertificate } from "./workload-certificate.ts";

export interface CaClientOptions extends GrpcChannelOptions {
  /** What is asked for. Default 86,400 s. */
  readonly ttlSeconds?: number;
  /** Say for whom the certificate is (a node's proxy asks for its pods). False: the token says it. Default true. */
  readonly impersonate?: boolean;
  /** How long the file of the roots must be quiet before it is read again. Default 2 s. */
  readonly rootDebounceMs?: number;
  readonly log?: Log;
}

const DEFAULT_TTL_SECONDS = 86_400;
/** An authority that asks another one in turn may take its time; without an end a slot would be lost. */
const REQUEST_TIMEOUT_MS = 30_000;
const CERTIFICATE = "CERTIFICATE";

/** Gets certificates from an authority over gRPC (spec: l4-ztunnel §6). A fresh key for each, which never leaves memory. */
export class CaClient implements CertificateSource {
  readonly #options: CaClientOptions;
  readonly #log: Log;
  readonly #watch: FileWatch | undefined;
  #channel: Promise<GrpcChannel> | undefined;
  /** The roots of the present channel, to see whether the file really changed. */
  #roots = "";

  constructor(options: CaClientOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog;
    if (options.roots.kind !== "file") return;
    this.#watch = watchFiles({
      paths: [options.roots.path],
      onChange: () => void this.#rootsMayHaveChanged(),
      ...(options.rootDebounceMs === undefined ? {} : { debounceMs: options.rootDebounceMs }),
    });
  }

  /** Rejects with MeshError `CA_REQUEST_FAILED`, `EMPTY_CHAIN`, `NO_ROOT`, `WRONG_IDENTITY` or `WRONG_KEY`. */
  async fetch(identity: Identity, signal: AbortSignal): Promise<WorkloadCertificate> {
    const privateKey = PrivateKey.generate();
    const uri = formatIdentity(identity);
    const { ttlSeconds = DEFAULT_TTL_SECONDS, impersonate = true } = this.#options;
    const { createClient } = await import("@connectrpc/connect");
    const channel = await this.#open();
    const client = createClient(ca.IstioCertificateService, channel.transport);
    const request = {
      csr: createCsr(identity, privateKey),
      validityDuration: BigInt(ttlSeconds),
      ...(impersonate ? { metadata: { ImpersonatedIdentity: uri } } : {}),
    };
    const answer = client.createCertificate(request, { signal, timeoutMs: REQUEST_TIMEOUT_MS });
    const { certChain } = await answer.catch((error: unknown) => {
      throw requestFailed(error);
    });
    return certificateFrom(identity, privateKey, certChain);
  }

  close(): void {
    this.#watch?.close();
    this.#drop();
  }

  #open(): Promise<GrpcChannel> {
    if (this.#channel !== undefined) return this.#channel;
    const opening = this.#dial();
    this.#channel = opening;
    // A failed attempt is not kept: the next request tries anew.
    opening.catch(() => {
      if (this.#channel === opening) this.#channel = undefined;
    });
    return opening;
  }

  async #dial(): Promise<GrpcChannel> {
    this.#roots = (await readRoots(this.#options.roots)).join("");
    return openGrpcChannel({ ...this.#options, roots: { kind: "pem", pem: this.#roots } });
  }

  async #rootsMayHaveChanged(): Promise<void> {
    if (this.#channel === undefined) return;
    try {
      const roots = (await readRoots(this.#options.roots)).join("");
      if (roots === this.#roots) return;
      this.#log.info("the roots of the certificate authority changed: connecting anew at the next request");
      this.#drop();
    } catch (error) {
      this.#log.warn("the roots of the certificate authority cannot be read: the old ones stay", {
        error: messageOf(error),
      });
    }
  }

  #drop(): void {
    const channel = this.#channel;
    this.#channel = undefined;
    void channel?.then(
      (open) => open.close(),
      // It never opened: nothing to close.
      () => undefined,
    );
  }
}

/** Checks an authority's answer: leaf first, one certificate each, the roots last. */
export function certificateFrom(
  identity: Identity,
  privateKey: PrivateKey,
  certChain: readonly string[],
): WorkloadCertificate {
  if (certChain.length === 0)
    throw refused("EMPTY_CHAIN", `the authority's answer for ${formatIdentity(identity)} is empty`);
  if (certChain.length === 1) throw refused("NO_ROOT", "no root certificate present");
  const chainPem = certChain.slice(0, -1).map(firstCertificate).join("");
  return WorkloadCertificate.create({ identity, privateKey, chainPem, rootsPem: certChain.at(-1) ?? "" });
}

function firstCertificate(pem: string, index: number): string {
  const [der] = fromPem(CERTIFICATE, pem);
  if (der === undefined)
    throw refused("BAD_CHAIN", `element ${index} of the authority's answer is not a PEM certificate`);
  return toPem(CERTIFICATE, der);
}

function requestFailed(error: unknown): MeshError {
  if (error instanceof MeshError) return error;
  const { code, rawMessage } = ConnectError.from(error);
  // A token or a root file that cannot be read is our own trouble, and its text is better than a status.
  if (error instanceof ConnectError && error.cause instanceof MeshError) return error.cause;
  return new MeshError(`signing gRPC error (${Code[code]}): ${rawMessage}`, {
    code: "CA_REQUEST_FAILED",
    side: "internal",
    cause: error,
  });
}

function refused(code: string, message: string): MeshError {
  return new MeshError(message, { code, side: "internal" });
}
