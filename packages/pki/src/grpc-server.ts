import type { Http2SecureServer, Http2ServerRequest, Http2Session, ServerHttp2Session } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { type ConnectRouter, createContextKey, createContextValues, type HandlerContext } from "@connectrpc/connect";
import { uriSans } from "./certificate.ts";

export interface GrpcServerOptions {
  /** Leaf first. */
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
  /** Client certificates are asked for and verified with these, never required: a token may do instead. */
  readonly clientRootsPem?: string;
  /** Adds the services: `(router) => { ca.register(router); ads.register(router) }`. */
  readonly routes: (router: ConnectRouter) => void;
  readonly host?: string;
  /** Default 0: any free one. */
  readonly port?: number;
  /**
   * A connection on which nobody has called `GrpcPeer.authenticated` by then is ended, and only so many of them are kept;
   * default: neither.
   */
  readonly unauthenticated?: { readonly timeoutMs: number; readonly maxConnections: number };
  /** Connections that are in their handshake at a time; one more is closed. Default 1,000. */
  readonly maxHandshakes?: number;
  /** Connections in all. Default 10,000. */
  readonly maxConnections?: number;
  /** A connection that a limit has closed. */
  readonly onRefused?: (limit: "handshakes" | "unauthenticated") => void;
}

export interface GrpcServer {
  readonly port: number;
  /** For the next handshakes; connections that are open stay. */
  setCertificate(certificateChainPem: string, privateKeyPem: string): void;
  /** Ends every connection. With a grace (ms), calls that are under way have so long to end, and clients are told to go. */
  close(graceMs?: number): Promise<void>;
}

/** The other side's verified certificate names; empty without a client certificate. */
export interface GrpcPeer {
  readonly address: string;
  readonly uris: readonly string[];
  /** To be called when a call on the connection has shown who it is. */
  readonly authenticated?: () => void;
}

const peerKey = createContextKey<GrpcPeer>({ address: "", uris: [] });

/** The largest request: a client that reconnects names every resource it holds (about 100 bytes each). */
const MAX_REQUEST_BYTES = 64 * 1024 * 1024;
const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024;
/** Calls at a time on one connection: a proxy needs one stream and eight certificates. */
const MAX_CONCURRENT_STREAMS = 100;
/** Old proxies among the clients have no 1.3. */
const MIN_TLS = "TLSv1.2";
const MAX_CONNECTIONS = 10_000;
/** A handshake costs a millisecond of a core: more than that at a time only wait for each other. */
const MAX_HANDSHAKES = 1_000;
/** HTTP/2 PING, and how long its answer may take. */
const PING_INTERVAL_MS = 30_000;
const PING_TIMEOUT_MS = 10_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** A gRPC server over TLS (1.2 or later) for control-plane services. Resolves when it listens. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  // Loaded here: a process that only calls others does not pay for them.
  const [{ createServer }, { createSecureServer }, { connectNodeAdapter }] = await Promise.all([
    import("node:net"),
    import("node:http2"),
    import("@connectrpc/connect-node"),
  ]);
  const sessions = new Set<ServerHttp2Session>();
  const strangers = new Strangers(options);
  const clientRoots = options.clientRootsPem === undefined ? {} : { ca: options.clientRootsPem };
  const handler = connectNodeAdapter({
    routes: options.routes,
    readMaxBytes: MAX_REQUEST_BYTES,
    acceptCompression: [],
    contextValues: (request) => createContextValues().set(peerKey, peerOf(request as Http2ServerRequest, strangers)),
  });
  const server = createSecureServer(
    {
      cert: options.certificateChainPem,
      key: options.privateKeyPem,
      minVersion: MIN_TLS,
      ...clientRoots,
      // A client without a certificate is let in; one whose certificate is not ours counts as having none.
      requestCert: options.clientRootsPem !== undefined,
      rejectUnauthorized: false,
      settings: { initialWindowSize: STREAM_WINDOW_BYTES, maxConcurrentStreams: MAX_CONCURRENT_STREAMS },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    },
    handler,
  );
  // In front of TLS, because a socket that TLS has taken over cannot be refused any more.
  const door = createServer({ noDelay: true });
  // Those too whose handshake never ends.
  const sockets = new Set<Socket>();
  door.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  door.maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
  boundHandshakes(door, server, options);
  server.on("session", (session) => {
    if (!strangers.add(session)) return;
    sessions.add(session);
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    keepAlive(session);
    session.once("close", () => sessions.delete(session));
    // The client is gone or broke the protocol: its calls end with an error of their own.
    session.on("error", () => session.destroy());
  });
  await listening(door, options.port ?? 0, options.host ?? "127.0.0.1");
  return {
    port: (door.address() as AddressInfo).port,
    setCertificate: (cert, key) => server.setSecureContext({ cert, key, minVersion: MIN_TLS, ...clientRoots }),
    close: (graceMs = 0) =>
      new Promise((resolve) => {
        const end = () => {
          for (const session of sessions) session.destroy();
          for (const socket of sockets) socket.destroy();
        };
        const late = graceMs > 0 ? setTimeout(end, graceMs) : undefined;
        door.close(() => {
          clearTimeout(late);
          resolve();
        });
        // With GOAWAY: nothing new on this connection, what is open may end.
        if (graceMs > 0) for (const session of sessions) session.close();
        else end();
      }),
  };
}

/** Who called, as far as the connection knows. */
export function grpcPeer(context: HandlerContext): GrpcPeer {
  return context.values.get(peerKey);
}

function peerOf(request: Http2ServerRequest, strangers: Strangers): GrpcPeer {
  const { session } = request.stream;
  const socket = session?.socket as TLSSocket | undefined;
  const certificate = socket?.authorized === true ? socket.getPeerX509Certificate() : undefined;
  return {
    address: socket?.remoteAddress ?? "",
    uris: certificate === undefined ? [] : uriSans(certificate),
    authenticated: () => strangers.remove(session),
  };
}

/** Connections on which nobody has shown who it is: few, and not for long. */
class Strangers {
  readonly #limits: GrpcServerOptions["unauthenticated"];
  readonly #onRefused: GrpcServerOptions["onRefused"];
  readonly #timers = new Map<Http2Session, NodeJS.Timeout>();

  constructor({ unauthenticated, onRefused }: GrpcServerOptions) {
    this.#limits = unauthenticated;
    this.#onRefused = onRefused;
  }

  /** False: there are too many, it was ended. */
  add(session: Http2Session): boolean {
    if (this.#limits === undefined) return true;
    const { timeoutMs, maxConnections } = this.#limits;
    // An error of a session that is being thrown away concerns nobody.
    session.on("error", () => session.destroy());
    if (this.#timers.size >= maxConnections) {
      this.#onRefused?.("unauthenticated");
      session.destroy();
      return false;
    }
    const timer = setTimeout(() => {
      this.#onRefused?.("unauthenticated");
      session.destroy();
    }, timeoutMs);
    this.#timers.set(session, timer);
    session.once("close", () => this.remove(session));
    return true;
  }

  remove(session: Http2Session | undefined): void {
    if (session === undefined) return;
    clearTimeout(this.#timers.get(session));
    this.#timers.delete(session);
  }
}

/** Closes connections that come while too many others are in their handshake, and hands the others over. */
function boundHandshakes(door: Server, server: Http2SecureServer, options: GrpcServerOptions): void {
  const { maxHandshakes = MAX_HANDSHAKES, onRefused } = options;
  const shaking = new Set<string>();
  // The TLS socket stands upon the one that was accepted: what both know is the other end.
  const nameOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`;
  door.on("connection", (socket: Socket) => {
    if (shaking.size >= maxHandshakes) {
      onRefused?.("handshakes");
      socket.destroy();
      return;
    }
    const name = nameOf(socket);
    shaking.add(name);
    socket.once("close", () => shaking.delete(name));
    server.emit("connection", socket);
  });
  server.on("secureConnection", (socket: TLSSocket) => shaking.delete(nameOf(socket)));
}

/** Ends a session whose other end is gone without a word. */
function keepAlive(session: ServerHttp2Session): void {
  let answer: NodeJS.Timeout | undefined;
  const ping = setInterval(() => {
    answer ??= setTimeout(() => session.destroy(), PING_TIMEOUT_MS);
    session.ping(() => {
      clearTimeout(answer);
      answer = undefined;
    });
  }, PING_INTERVAL_MS);
  session.once("close", () => {
    clearInterval(ping);
    clearTimeout(answer);
  });
}

function listening(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      // A failed accept or handshake is the client's trouble; the server goes on.
      server.on("error", () => undefined);
      resolve();
    });
  });
}
