import type { Reactor, Timer } from "@tulle/reactor";
import type { IdentityMaterial, PeerRequirement, TlsSession } from "@tulle/tls";
import type { IdentityMessage } from "../protocol.ts";

/** What the store needs of a TLS context; `TlsContext` of the tls package is one. */
export interface SessionFactory {
  server(requirement: PeerRequirement): TlsSession;
  client(requirement: PeerRequirement): TlsSession;
  close(): void;
}

export type CreateContext = (material: IdentityMaterial) => SessionFactory;

/** Called once with the context, or with the reason why there is none. Never called inside `get`. */
export interface IdentityWaiter {
  onIdentity(context: SessionFactory): void;
  onIdentityFailed(reason: string): void;
}

/** How long a handshake waits for its certificate. */
export const IDENTITY_WAIT_MS = 5000;
/** Handshakes of one thread that wait for a certificate at a time; more are refused at once. */
export const MAX_IDENTITY_WAITERS = 16_384;

interface Entry {
  context: SessionFactory | undefined;
  notAfter: number;
  readonly waiters: Map<IdentityWaiter, Timer>;
}

/**
 * The TLS contexts of this thread, one per workload identity. The main thread owns keys and renewal; a context that is
 * missing or expired is asked for and the handshake parks meanwhile. A new certificate replaces the context for new
 * sessions; those that run keep the old one.
 */
export class IdentityStore {
  readonly #reactor: Reactor;
  readonly #create: CreateContext;
  readonly #request: (uri: string) => void;
  readonly #entries = new Map<string, Entry>();
  #waiting = 0;

  constructor(options: {
    readonly reactor: Reactor;
    readonly create: CreateContext;
    /** Asks the main thread for a certificate; answered by `provide` or `fail`. */
    readonly request: (uri: string) => void;
  }) {
    this.#reactor = options.reactor;
    this.#create = options.create;
    this.#request = options.request;
  }

  /** The context now, or undefined: then wait with `wait`. */
  get(uri: string): SessionFactory | undefined {
    const entry = this.#entries.get(uri);
    return entry?.context !== undefined && entry.notAfter > this.#reactor.wall() ? entry.context : undefined;
  }

  /** Asks for the certificate and calls the waiter when it is there. False when too many wait already. */
  wait(uri: string, waiter: IdentityWaiter): boolean {
    if (this.#waiting >= MAX_IDENTITY_WAITERS) return false;
    let entry = this.#entries.get(uri);
    if (entry === undefined) {
      entry = { context: undefined, notAfter: 0, waiters: new Map() };
      this.#entries.set(uri, entry);
    }
    const timer = this.#reactor.after(IDENTITY_WAIT_MS, () => {
      if (!this.#drop(uri, waiter)) return;
      waiter.onIdentityFailed(`identity error: no certificate for ${uri} within ${IDENTITY_WAIT_MS / 1000} s`);
    });
    const first = entry.waiters.size === 0;
    entry.waiters.set(waiter, timer);
    this.#waiting++;
    if (first) this.#request(uri);
    return true;
  }

  /** Stops waiting: the connection is gone. */
  cancel(uri: string, waiter: IdentityWaiter): void {
    this.#drop(uri, waiter);
  }

  /** The main thread has a (new) certificate. Throws nothing: a certificate that cannot be used fails the waiters. */
  provide(uri: string, message: IdentityMessage): void {
    let context: SessionFactory;
    try {
      context = this.#create({
        certificateChainPem: message.certificateChainPem,
        privateKey: message.privateKey,
        rootsPem: message.rootsPem,
      });
    } catch (error) {
      this.fail(uri, error instanceof Error ? error.message : String(error));
      return;
    }
    const entry = this.#entries.get(uri) ?? { context: undefined, notAfter: 0, waiters: new Map() };
    this.#entries.set(uri, entry);
    entry.context?.close();
    entry.context = context;
    entry.notAfter = message.notAfter;
    for (const waiter of this.#takeWaiters(entry)) waiter.onIdentity(context);
  }

  /** There is no certificate; one that is still valid stays in use. */
  fail(uri: string, reason: string): void {
    const entry = this.#entries.get(uri);
    if (entry === undefined) return;
    const waiters = this.#takeWaiters(entry);
    if (entry.context === undefined) this.#entries.delete(uri);
    for (const waiter of waiters) waiter.onIdentityFailed(`identity error: ${reason}`);
  }

  /** No workload of this identity is left on the node. */
  forget(uri: string): void {
    this.fail(uri, "the workload has left this node");
    this.#entries.get(uri)?.context?.close();
    this.#entries.delete(uri);
  }

  close(): void {
    for (const uri of [...this.#entries.keys()]) this.forget(uri);
  }

  get waiting(): number {
    return this.#waiting;
  }

  #takeWaiters(entry: Entry): IdentityWaiter[] {
    const waiters = [...entry.waiters.keys()];
    for (const timer of entry.waiters.values()) timer.cancel();
    entry.waiters.clear();
    this.#waiting -= waiters.length;
    return waiters;
  }

  #drop(uri: string, waiter: IdentityWaiter): boolean {
    const entry = this.#entries.get(uri);
    const timer = entry?.waiters.get(waiter);
    if (entry === undefined || timer === undefined) return false;
    timer.cancel();
    entry.waiters.delete(waiter);
    this.#waiting--;
    if (entry.waiters.size === 0 && entry.context === undefined) this.#entries.delete(uri);
    return true;
  }
}
