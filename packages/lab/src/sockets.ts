import { createSocket, type Socket as Datagram } from "node:dgram";
import { createServer, type Server, Socket } from "node:net";
import { MeshError, type SocketAddress, formatSocketAddress } from "@tulle/base";
import {
  AddressBuffer,
  AF_INET6,
  allowForeignSource,
  bind,
  type Descriptor,
  familyOf,
  listen,
  NetNamespace,
  openSocket,
  orThrow,
  SocketOptions,
  setOption,
} from "@tulle/linux";

/** Ordinary Node sockets that live in another namespace: the caller stays where it is. */

export interface PeerOptions {
  /** Bind to this address first; port 0 lets the kernel choose. */
  readonly source?: SocketAddress;
  /** SO_MARK. */
  readonly mark?: number;
  /** Default 5 s. */
  readonly timeoutMs?: number;
  /** IP_TRANSPARENT + IP_FREEBIND, so that `source` may be an address that is not this host's. */
  readonly foreignSource?: boolean;
}

export interface ServerOptions {
  readonly mark?: number;
  /** IP_TRANSPARENT. */
  readonly transparent?: boolean;
  readonly reusePort?: boolean;
}

const CONNECT_TIMEOUT_MS = 5000;
const BACKLOG = 128;

/** A TCP connection from inside a namespace. Rejects with Node's error (`code` ECONNREFUSED …), or ETIMEDOUT. */
export function connectFrom(namespacePath: string, to: SocketAddress, options: PeerOptions = {}): Promise<Socket> {
  const { source, mark, timeoutMs = CONNECT_TIMEOUT_MS, foreignSource = false } = options;
  const descriptor = inside(namespacePath, () => openSocket(familyOf(to.ip), "stream"));
  try {
    if (mark !== undefined) orThrow(setOption(descriptor, SocketOptions.mark, mark), "set SO_MARK");
    if (foreignSource) orThrow(allowForeignSource(descriptor, familyOf(to.ip)), "allow a foreign source");
    if (source !== undefined) bindTo(descriptor, source);
  } catch (error) {
    descriptor.close();
    throw error;
  }
  // Without manualStart Node begins to read a socket that is not connected yet.
  const socket = new Socket({ fd: descriptor.release(), allowHalfOpen: true, manualStart: true } as object);
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      if (!socket.connecting) return;
      const text = `no answer from ${formatSocketAddress(to)} within ${timeoutMs} ms`;
      socket.destroy(Object.assign(new Error(text), { code: "ETIMEDOUT" }));
    };
    // After a stall Node runs timers before it looks at sockets: this one may be connected already.
    const timer = setTimeout(() => setImmediate(giveUp), timeoutMs);
    socket.once("error", reject).once("close", () => clearTimeout(timer));
    socket.connect({ port: to.port, host: to.ip }, () => {
      clearTimeout(timer);
      socket.off("error", reject);
      // Whoever uses the socket may listen for errors; without a listener a reset would end the process.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/**
 * A TCP server inside a namespace; port 0 lets the kernel choose. Connections are half-open capable. Disposing of it closes
 * its connections too.
 */
export function listenIn(
  namespacePath: string,
  address: SocketAddress,
  onConnection: (socket: Socket) => void,
  options: ServerOptions = {},
): Promise<Server & AsyncDisposable> {
  const family = familyOf(address.ip);
  const descriptor = inside(namespacePath, () => openSocket(family, "stream"));
  try {
    orThrow(setOption(descriptor, SocketOptions.reuseAddress, 1), "set SO_REUSEADDR");
    if (options.reusePort) orThrow(setOption(descriptor, SocketOptions.reusePort, 1), "set SO_REUSEPORT");
    if (options.mark !== undefined) orThrow(setOption(descriptor, SocketOptions.mark, options.mark), "set SO_MARK");
    if (options.transparent) orThrow(allowForeignSource(descriptor, family), "set IP_TRANSPARENT");
    bindTo(descriptor, address);
    orThrow(listen(descriptor, BACKLOG), `listen on ${formatSocketAddress(address)}`);
  } catch (error) {
    descriptor.close();
    throw error;
  }
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on("error", () => {}).on("close", () => open.delete(socket));
    onConnection(socket);
  });
  server[Symbol.asyncDispose] = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of open) socket.destroy();
    await closed;
  };
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ fd: descriptor.release() }, () => resolve(server));
  });
}

/** An UDP socket inside a namespace; port 0 lets the kernel choose. */
export function datagramIn(
  namespacePath: string,
  address: SocketAddress,
  options: ServerOptions = {},
): Promise<Datagram> {
  const family = familyOf(address.ip);
  const descriptor = inside(namespacePath, () => openSocket(family, "datagram"));
  try {
    if (options.mark !== undefined) orThrow(setOption(descriptor, SocketOptions.mark, options.mark), "set SO_MARK");
    bindTo(descriptor, address);
  } catch (error) {
    descriptor.close();
    throw error;
  }
  const socket = createSocket(family === AF_INET6 ? "udp6" : "udp4");
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd: descriptor.release() }, () => resolve(socket));
  });
}

/** The port of a server or socket that was bound to port 0. */
export function portOf(bound: { address(): unknown }): number {
  const address = bound.address() as { readonly port?: number } | null;
  if (address?.port === undefined)
    throw new MeshError("the socket is not bound", { code: "NOT_BOUND", side: "internal" });
  return address.port;
}

function bindTo(descriptor: Descriptor, { ip, port }: SocketAddress): void {
  const address = new AddressBuffer();
  orThrow(bind(descriptor, address, address.encode(ip, port)), `bind to ${formatSocketAddress({ ip, port })}`);
}

function inside<T>(path: string, create: () => T): T {
  using namespace = NetNamespace.open(path);
  return namespace.enter(create);
}
