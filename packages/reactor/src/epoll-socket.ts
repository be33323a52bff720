import {
  AddressBuffer,
  AF_INET6,
  allowForeignSource,
  bind,
  connect,
  type Descriptor,
  Errno,
  familyOf,
  listen,
  NetNamespace,
  openSocket,
  orThrow,
  type SocketOption,
  SocketOptions,
  setKeepAlive,
  setOption,
  setTransparent,
  type SocketType,
  SystemError,
} from "@tulle/linux";
import { type SocketAddress, canonicalIp, formatSocketAddress } from "@tulle/base";
import type { ConnectOptions, DatagramOptions, ListenOptions, Namespace, SocketOptions as Common } from "./contract.ts";

/** Connections that wait to be accepted, unless the caller says otherwise. The kernel caps it at net.core.somaxconn. */
const DEFAULT_BACKLOG = 1024;

const target = new AddressBuffer();

/** A listening socket, and whether it is transparent. Throws SystemError. */
export function openListener(
  options: ListenOptions,
  home: Namespace | undefined,
): { readonly descriptor: Descriptor; readonly transparent: boolean } {
  const { address } = options;
  const operation = `listen on ${formatSocketAddress(address)}`;
  const family = familyOf(address.ip);
  return opened(create("stream", "listener", family, options, home), (descriptor) => {
    const set = (option: SocketOption, value: number) => must(descriptor, option, value, operation);
    set(SocketOptions.reuseAddress, 1);
    if (options.reusePort === true) set(SocketOptions.reusePort, 1);
    if (family === AF_INET6) set(SocketOptions.v6Only, options.v6Only === true ? 1 : 0);
    let transparent = false;
    if (options.transparent !== undefined) {
      const result = setTransparent(descriptor, family);
      if (result < 0 && options.transparent === "required")
        throw new SystemError(`${operation}: IP_TRANSPARENT`, result);
      transparent = result === 0;
    }
    // Accepted connections inherit these, so that they cost no call there.
    set(SocketOptions.noDelay, 1);
    if (options.keepAlive !== undefined)
      orThrow(setKeepAlive(descriptor, options.keepAlive), `${operation}: keep-alive`);
    bindTo(descriptor, address, operation);
    orThrow(listen(descriptor, options.backlog ?? DEFAULT_BACKLOG), operation);
    return { descriptor, transparent };
  });
}

/** A bound datagram socket. Throws SystemError. */
export function openDatagram(options: DatagramOptions, home: Namespace | undefined): Descriptor {
  const operation = `receive datagrams on ${formatSocketAddress(options.address)}`;
  const family = familyOf(options.address.ip);
  return opened(create("datagram", "datagram", family, options, home), (descriptor) => {
    if (family === AF_INET6) must(descriptor, SocketOptions.v6Only, 0, operation);
    if (options.reusePort === true) must(descriptor, SocketOptions.reusePort, 1, operation);
    bindTo(descriptor, options.address, operation);
    return descriptor;
  });
}

/** A socket that connects to `options.address`. Throws SystemError when connect fails at once. */
export function openConnecting(options: ConnectOptions, home: Namespace | undefined): Descriptor {
  const { sourcePort } = options;
  if (sourcePort !== undefined && isForeign(options)) {
    try {
      return connecting(options, home, sourcePort);
    } catch (error) {
      // It cannot be bound, or the very connection exists (or rests in TIME_WAIT).
      if (!(error instanceof SystemError) || error.errno !== Errno.EADDRNOTAVAIL) throw error;
    }
  }
  return connecting(options, home, 0);
}

/** `port`: of the source; 0: the kernel chooses. */
function connecting(options: ConnectOptions, home: Namespace | undefined, port: number): Descriptor {
  const { address, source } = options;
  const operation = `connect to ${formatSocketAddress(address)}`;
  const family = familyOf(address.ip);
  return opened(create("stream", "connection", family, options, home), (descriptor) => {
    must(descriptor, SocketOptions.noDelay, 1, operation);
    if (options.keepAlive !== undefined)
      orThrow(setKeepAlive(descriptor, options.keepAlive), `${operation}: keep-alive`);
    if (source !== undefined && isForeign(options)) {
      const result = bindSource(descriptor, { ip: source, port }, family);
      if (result < 0 && port !== 0) throw new SystemError(`${operation} from port ${port}`, Errno.EADDRNOTAVAIL);
      if (result < 0 && options.sourceFallback !== "without") {
        throw new SystemError(`${operation} from ${source}`, result);
      }
    }
    const length = target.encode(address.ip, address.port);
    if (length === 0) throw new SystemError(operation, Errno.EINVAL);
    const result = connect(descriptor, target, length);
    if (result < 0 && result !== -Errno.EINPROGRESS) throw new SystemError(operation, result, "upstream");
    return descriptor;
  });
}

/** The destination's own address as the source would be this machine talking to itself: connect as usual. */
function isForeign({ source, address }: ConnectOptions): boolean {
  return source !== undefined && canonicalIp(source) !== canonicalIp(address.ip);
}

/** A socket in its namespace, with its mark. Throws SystemError. */
function create(
  type: SocketType,
  kind: string,
  family: number,
  options: Common,
  home: Namespace | undefined,
): Descriptor {
  const namespace = options.namespace ?? home;
  const make = () => openSocket(family, type, kind);
  if (namespace !== undefined && !(namespace instanceof NetNamespace)) {
    throw new TypeError("an epoll reactor takes a NetNamespace as namespace");
  }
  const descriptor = namespace === undefined ? make() : namespace.enter(make);
  if (options.mark !== undefined) {
    const { mark } = options;
    opened(descriptor, () => must(descriptor, SocketOptions.mark, mark, `create a ${kind} socket`));
  }
  return descriptor;
}

/** Gives what `action` gives; when it throws, the descriptor is closed. */
function opened<T>(descriptor: Descriptor, action: (descriptor: Descriptor) => T): T {
  try {
    return action(descriptor);
  } catch (error) {
    descriptor.close();
    throw error;
  }
}

function must(descriptor: Descriptor, option: SocketOption, value: number, operation: string): void {
  orThrow(setOption(descriptor, option, value), `${operation}: ${option.name}`);
}

function bindTo(descriptor: Descriptor, address: SocketAddress, operation: string): void {
  const length = target.encode(address.ip, address.port);
  if (length === 0) throw new SystemError(operation, Errno.EINVAL);
  orThrow(bind(descriptor, target, length), operation);
}

function bindSource(descriptor: Descriptor, source: SocketAddress, family: number): number {
  if (familyOf(source.ip) !== family) return -Errno.EAFNOSUPPORT;
  const length = target.encode(source.ip, source.port);
  if (length === 0) return -Errno.EINVAL;
  return (
    allowForeignSource(descriptor, family) ||
    // Connections of one port to several destinations: only the very same one is refused, by connect.
    (source.port === 0 ? 0 : setOption(descriptor, SocketOptions.reuseAddress, 1)) ||
    bind(descriptor, target, length)
  );
}
