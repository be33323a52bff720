import type { MeshError, SocketAddress } from "@tulle/base";
import type { Connection, Namespace } from "@tulle/reactor";
import type { TlsPeer } from "@tulle/tls";

/** A header as it is on the wire: lower-case name, value. */
export type HeaderField = readonly [name: string, value: string];

/** Totals of one relayed connection, readable at any time. */
export interface Relay {
  /** Bytes from the application-side connection into the tunnel (or the second connection). */
  readonly sent: number;
  /** Bytes from the tunnel (or the second connection) to the application-side connection. */
  readonly received: number;
  /** Cuts both sides (RST both ways); `onEnd` gets this error. No effect after the end. */
  abort(error: MeshError): void;
}

/**
 * `error` is undefined after a normal end, i.e. both directions were closed (a reset by either peer counts as an end too).
 * Otherwise it is what the owner has cut it with, or has one of the codes IO_ERROR (the HBONE connection was lost, or the
 * peer has reset the stream with an error), HTTP2_ERROR (the peer broke a rule), LIMIT_REACHED (no budget for the bytes of
 * a slow reader).
 */
export type RelayEnd = (relay: Relay, error: MeshError | undefined) => void;

/** A CONNECT request that a peer has sent on an HBONE connection. Nothing is read from the tunnel until `accept`. */
export interface IncomingTunnel {
  readonly method: string;
  /** As received; undefined when the pseudo header is missing. */
  readonly authority: string | undefined;
  /** All values of a header, in order. */
  headers(name: string): readonly string[];
  /** The verified peer of the TLS connection. */
  readonly peer: TlsPeer;
  /** The TCP peer. */
  readonly remote: SocketAddress;
  /** The address that the TCP connection was made to. */
  readonly local: SocketAddress;
  /** HEADERS with END_STREAM. */
  reject(status: number): void;
  /** Sends 200 with these headers and relays between the tunnel and `application` from here on; owns both. */
  accept(headers: readonly HeaderField[], application: Connection, onEnd: RelayEnd): Relay;
  /** Called if the peer resets the stream (or its connection ends) before accept or reject. */
  onCancelled: (() => void) | undefined;
}

/** An HBONE connection that was accepted on 15008. */
export interface ServerConnection {
  readonly remote: SocketAddress;
  readonly peer: TlsPeer | undefined;
  /** Graceful: GOAWAY, no new tunnels, existing ones go on. */
  drain(): void;
  /** At once: GOAWAY, then every tunnel is reset with this error. */
  close(error: MeshError): void;
}

export interface ServerConnectionHandler {
  onTunnel(tunnel: IncomingTunnel): void;
  /** Once, at the end of the connection. `error` says why when the end was not orderly (handshake failure, protocol error, dead peer). */
  onClosed(connection: ServerConnection, error: MeshError | undefined): void;
}

/** What makes two outbound connections interchangeable (spec: l4-ztunnel §2.7). */
export interface PoolKey {
  /** Own identity, SPIFFE URI. */
  readonly source: string;
  /** Acceptable destination identities, SPIFFE URIs; order does not matter. */
  readonly destinations: readonly string[];
  readonly address: SocketAddress;
  /** The client pod's address. */
  readonly sourceIp: string;
}

export interface ConnectRequest {
  readonly authority: string;
  readonly headers: readonly HeaderField[];
}

export interface TunnelHandler {
  /** The peer answered 200. `relay` may be called from now on. */
  onEstablished(tunnel: OutgoingTunnel): void;
  /**
   * The tunnel did not come about. `error.code`: CONNECT_FAILED, CONNECT_TIMEOUT, TLS_FAILED, IDENTITY_MISMATCH,
   * HTTP2_FAILED, HTTP_STATUS (see `status`), POOL_CLOSED. Never called after onEstablished.
   */
  onFailed(tunnel: OutgoingTunnel, error: MeshError): void;
}

export interface OutgoingTunnel {
  /** The status that the peer answered with, if it did. */
  readonly status: number | undefined;
  /** Values of a response header. */
  headers(name: string): readonly string[];
  readonly peer: TlsPeer | undefined;
  /** Relays between the application's connection and the tunnel; owns both from here on. */
  relay(application: Connection, onEnd: RelayEnd): Relay;
  /** Gives up before the end. Nothing is called afterwards. */
  cancel(): void;
}

/** Outbound HBONE connections of one workload on one thread. */
export interface TunnelPool {
  open(key: PoolKey, request: ConnectRequest, handler: TunnelHandler): OutgoingTunnel;
  /** Drops the connections to this address at once: it belongs to another workload now. Tunnels on them end with this error. */
  dropAddress(ip: string, error: MeshError): void;
  /** Keeps no connection for later: each ends with its last tunnel. Who was let in before still gets a tunnel. */
  drain(): void;
  /** Ends everything at once; tunnels that are opened afterwards fail with POOL_CLOSED. */
  close(error: MeshError): void;
  readonly size: { readonly connections: number; readonly tunnels: number };
}

export interface PoolSocketOptions {
  readonly namespace?: Namespace;
  readonly mark?: number;
}
