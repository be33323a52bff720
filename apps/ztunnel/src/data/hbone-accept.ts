import { formatIdentity, type MeshError } from "@tulle/base";
import { acceptHbone, type IncomingTunnel, type ServerConnection, type ServerConnectionHandler } from "@tulle/hbone";
import { workloadIdentity } from "@tulle/mesh";
import type { Connection } from "@tulle/reactor";
import { failure, limitReached, unknownLocalWorkload } from "./failures.ts";
import type { IdentityWaiter, SessionFactory } from "./identity-store.ts";
import { PARKED } from "./parked.ts";
import type { PodProxy } from "./pod-proxy.ts";
import type { Waiting } from "./waiters.ts";

/** Handshake and first CONNECT, counted from accept (the "before authentication" deadline). */
export const AUTHENTICATION_DEADLINE_MS = 10_000;

/**
 * One connection to 15008 from accept to its end: it waits for the workload and its certificate, then becomes an HBONE
 * connection. Until its first CONNECT it counts as unauthenticated.
 */
export class HboneAccept implements Waiting, IdentityWaiter, ServerConnectionHandler {
  readonly #proxy: PodProxy;
  readonly #connection: Connection;
  readonly #source: string;
  readonly #acceptedAt: number;
  #server: ServerConnection | undefined;
  #identity: string | undefined;
  #unauthenticated = true;
  #over = false;

  constructor(proxy: PodProxy, connection: Connection) {
    this.#proxy = proxy;
    this.#connection = connection;
    this.#source = connection.peer.ip;
    this.#acceptedAt = proxy.context.reactor.now();
    connection.setHandler(PARKED);
  }

  start(): void {
    if (this.#begin() || this.#proxy.context.waiters.add(this)) return;
    this.#fail(limitReached("too many connections wait for the control plane"));
  }

  drain(): void {
    if (this.#server === undefined) this.#end();
    else this.#server.drain();
  }

  abort(error: MeshError): void {
    if (this.#over) return;
    if (this.#server === undefined) this.#fail(error);
    else this.#server.close(error);
  }

  // === Waiting: for the local workload

  retry(): boolean {
    return this.#over || this.#begin();
  }

  expire(): void {
    this.#fail(unknownLocalWorkload(this.#proxy.workload));
  }

  // === IdentityWaiter

  onIdentity(context: SessionFactory): void {
    this.#handshake(context);
  }

  onIdentityFailed(reason: string): void {
    this.#fail(failure("IDENTITY_ERROR", "internal", reason));
  }

  // === ServerConnectionHandler

  onTunnel(tunnel: IncomingTunnel): void {
    this.#authenticated();
    this.#proxy.onTunnel(tunnel);
  }

  onClosed(_connection: ServerConnection, error: MeshError | undefined): void {
    if (error !== undefined && this.#unauthenticated) {
      const { reactor, telemetry } = this.#proxy.context;
      const late = reactor.now() - this.#acceptedAt >= AUTHENTICATION_DEADLINE_MS;
      if (late) telemetry.count("connections_refused:authentication_timeout");
      this.#report(error);
    }
    this.#end();
  }

  #begin(): boolean {
    const local = this.#proxy.localWorkload();
    if (local === undefined) return false;
    this.#identity = formatIdentity(workloadIdentity(local));
    const { identities } = this.#proxy.context;
    const context = identities.get(this.#identity);
    if (context !== undefined) this.#handshake(context);
    else if (!identities.wait(this.#identity, this))
      this.#fail(limitReached("too many handshakes wait for a certificate"));
    return true;
  }

  #handshake(context: SessionFactory): void {
    const local = this.#proxy.localWorkload();
    if (this.#over) return;
    if (local === undefined) return this.#fail(unknownLocalWorkload(this.#proxy.workload));
    const { reactor, settings } = this.#proxy.context;
    const elapsed = reactor.now() - this.#acceptedAt;
    this.#server = acceptHbone(
      {
        reactor,
        connection: this.#connection,
        session: context.server({ kind: "trust-domain", trustDomain: workloadIdentity(local).trustDomain }),
        authenticationDeadlineMs: Math.max(1, AUTHENTICATION_DEADLINE_MS - elapsed),
        http2: settings.http2,
        budget: this.#proxy.budget,
      },
      this,
    );
  }

  #fail(error: MeshError): void {
    if (this.#over) return;
    this.#report(error);
    this.#connection.reset();
    this.#end();
  }

  #report(error: MeshError): void {
    this.#proxy.logFailure("inbound", this.#connection.peer, this.#connection.local, error);
  }

  #authenticated(): void {
    if (!this.#unauthenticated) return;
    this.#unauthenticated = false;
    this.#proxy.admission.leave(this.#source);
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#authenticated();
    const { waiters, identities } = this.#proxy.context;
    waiters.remove(this);
    if (this.#identity !== undefined) identities.cancel(this.#identity, this);
    if (this.#server === undefined) this.#connection.reset();
    this.#proxy.forgetServer(this);
  }
}
