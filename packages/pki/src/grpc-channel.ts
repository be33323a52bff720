import type { ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2";
import { checkServerIdentity, connect, type TLSSocket } from "node:tls";
import { isIP } from "node:net";
import type { Interceptor, Transport } from "@connectrpc/connect";
import type { GrpcTransportOptions } from "@connectrpc/connect-node";
import { type RootSource, readRoots } from "./roots.ts";
import { readToken, type TokenSource } from "./token.ts";

export interface GrpcChannelOptions {
  /** `https://host:port`. Anything but https is refused. */
  readonly address: string;
  readonly roots: RootSource;
  /** A name that the server's certificate may hold instead of the address's host. */
  readonly altHostname?: string;
  readonly token: TokenSource;
  /** Sent as `clusterid` beside the token. */
  readonly clusterId?: string;
  /** Name, TCP and TLS together. Default 5 s. */
  readonly connectTimeoutMs?: number;
  /** TCP alone. Default 1.5 s. */
  readonly handshakeTimeoutMs?: number;
  /** Extra headers, sent with every request. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A connection to a control plane. `transport` dials when it is first used, and again after a loss. */
export interface GrpcChannel {
  readonly transport: Transport;
  /** Ends the connection and every call on it. Idempotent. */
  close(): void;
}

type SessionManager = NonNullable<GrpcTransportOptions["sessionManager"]>;

const CONNECT_TIMEOUT_MS = 5_000;
/**
 * One SYN may be lost. More is of no use: what is sent to a pod that has just gone is answered by nobody, and all that
 * comes of this attempt is sent there; a new one goes to its successor.
 */
const HANDSHAKE_TIMEOUT_MS = 1_500;
/** HTTP/2 PING while a call is open; the connection counts as dead when the answer takes longer than the second. */
const PING_INTERVAL_MS = 30_000;
const PING_TIMEOUT_MS = 10_000;
/** TCP keep-alive, for what lies between: idle, interval, probes. */
const KEEPALIVE = { enable: true, initialDelay: 300_000, interval: 75_000, count: 9 } as const;
/** A whole mesh can arrive as one message. */
const MAX_MESSAGE_BYTES = 200 * 1024 * 1024;
/** Wide enough that a big first answer is not paced by round trips. */
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;

/**
 * Reads the roots and makes a channel that verifies its server by them: TLS 1.3, by the name in the address or the
 * alternative one. The token is read for each call. Throws MeshError when the address or the roots are of no use.
 */
export async function openGrpcChannel(options: GrpcChannelOptions): Promise<GrpcChannel> {
  const url = new URL(options.address);
  if (url.protocol !== "https:") throw new Error(`${options.address} is not an https address`);
  const ca = await readRoots(options.roots);
  const { createGrpcTransport, Http2SessionManager } = await import("@connectrpc/connect-node");
  const manager = new Http2SessionManager(
    url,
    { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS },
    {
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
      createConnection: () => dial(url, ca, options),
    },
  );
  const transport = createGrpcTransport({
    baseUrl: options.address,
    sessionManager: new WideSessions(manager),
    interceptors: [authenticator(options)],
    readMaxBytes: MAX_MESSAGE_BYTES,
    acceptCompression: [],
  });
  return { transport, close: () => manager.abort() };
}

function dial(url: URL, ca: string[], options: GrpcChannelOptions): TLSSocket {
  const { altHostname } = options;
  // URL keeps the brackets of an IPv6 literal.
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const socket = connect({
    host,
    port: Number(url.port || 443),
    ca,
    minVersion: "TLSv1.3",
    ALPNProtocols: ["h2"],
    ...(isIP(host) === 0 ? { servername: host } : {}),
    checkServerIdentity: (name, certificate) => {
      const problem = checkServerIdentity(name, certificate);
      if (problem === undefined || altHostname === undefined) return problem;
      return checkServerIdentity(altHostname, certificate);
    },
  });
  socket.setKeepAlive(KEEPALIVE);
  socket.setNoDelay(true);
  const { connectTimeoutMs = CONNECT_TIMEOUT_MS, handshakeTimeoutMs = HANDSHAKE_TIMEOUT_MS } = options;
  bound(socket, "secureConnect", connectTimeoutMs, url);
  if (isIP(host) === 0) socket.once("lookup", () => bound(socket, "connect", handshakeTimeoutMs, url));
  else bound(socket, "connect", handshakeTimeoutMs, url);
  return socket;
}

/** Ends a connection that is not so far in time. */
function bound(socket: TLSSocket, state: "connect" | "secureConnect", timeoutMs: number, { host }: URL): void {
  const what = state === "connect" ? "the TCP handshake with" : "connecting to";
  const late = () => socket.destroy(new Error(`${what} ${host} took longer than ${timeoutMs} ms`));
  const timer = setTimeout(late, timeoutMs);
  for (const end of [state, "close"]) socket.once(end, () => clearTimeout(timer));
}

function authenticator(options: GrpcChannelOptions): Interceptor {
  return (next) => async (request) => {
    for (const [name, value] of Object.entries(options.headers ?? {})) request.header.set(name, value);
    const token = await readToken(options.token);
    if (token !== undefined) {
      request.header.set("authorization", `Bearer ${token}`);
      if (options.clusterId !== undefined) request.header.set("clusterid", options.clusterId);
    }
    return next(request);
  };
}

/** Sessions whose connection window is raised too: Node's settings raise those of streams only. */
class WideSessions implements SessionManager {
  readonly authority: string;
  readonly #inner: SessionManager;
  readonly #widened = new WeakSet<object>();

  constructor(inner: SessionManager) {
    this.authority = inner.authority;
    this.#inner = inner;
  }

  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: object,
  ): Promise<ClientHttp2Stream> {
    const stream = await this.#inner.request(method, path, headers, options);
    const session = stream.session;
    if (session !== undefined && !session.destroyed && !this.#widened.has(session)) {
      this.#widened.add(session);
      session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    }
    return stream;
  }

  notifyResponseByteRead(stream: ClientHttp2Stream): void {
    this.#inner.notifyResponseByteRead(stream);
  }
}
