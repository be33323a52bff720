import { calls, lastError } from "./calls.ts";
import * as k from "./constants.ts";
import type { Descriptor } from "./descriptor.ts";
import { lingerLayout } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** An int-valued option. The name is what an error message says. */
export interface SocketOption {
  readonly name: string;
  readonly level: number;
  readonly option: number;
}

/** socket(7), tcp(7), ip(7), ipv6(7). */
export const SocketOptions = {
  reuseAddress: { name: "SO_REUSEADDR", level: k.SOL_SOCKET, option: k.SO_REUSEADDR },
  reusePort: { name: "SO_REUSEPORT", level: k.SOL_SOCKET, option: k.SO_REUSEPORT },
  acceptsConnections: { name: "SO_ACCEPTCONN", level: k.SOL_SOCKET, option: k.SO_ACCEPTCONN },
  sendBuffer: { name: "SO_SNDBUF", level: k.SOL_SOCKET, option: k.SO_SNDBUF },
  receiveBuffer: { name: "SO_RCVBUF", level: k.SOL_SOCKET, option: k.SO_RCVBUF },
  /** A loop guard, never a boundary: NET_RAW is enough to set it. */
  mark: { name: "SO_MARK", level: k.SOL_SOCKET, option: k.SO_MARK },
  /** Reading it clears it. */
  error: { name: "SO_ERROR", level: k.SOL_SOCKET, option: k.SO_ERROR },
  keepAlive: { name: "SO_KEEPALIVE", level: k.SOL_SOCKET, option: k.SO_KEEPALIVE },
  noDelay: { name: "TCP_NODELAY", level: k.SOL_TCP, option: k.TCP_NODELAY },
  keepIdleSeconds: { name: "TCP_KEEPIDLE", level: k.SOL_TCP, option: k.TCP_KEEPIDLE },
  keepIntervalSeconds: { name: "TCP_KEEPINTVL", level: k.SOL_TCP, option: k.TCP_KEEPINTVL },
  keepCount: { name: "TCP_KEEPCNT", level: k.SOL_TCP, option: k.TCP_KEEPCNT },
  userTimeoutMs: { name: "TCP_USER_TIMEOUT", level: k.SOL_TCP, option: k.TCP_USER_TIMEOUT },
  v6Only: { name: "IPV6_V6ONLY", level: k.SOL_IPV6, option: k.IPV6_V6ONLY },
  transparentV4: { name: "IP_TRANSPARENT", level: k.SOL_IP, option: k.IP_TRANSPARENT },
  transparentV6: { name: "IPV6_TRANSPARENT", level: k.SOL_IPV6, option: k.IPV6_TRANSPARENT },
  freebindV4: { name: "IP_FREEBIND", level: k.SOL_IP, option: k.IP_FREEBIND },
  freebindV6: { name: "IPV6_FREEBIND", level: k.SOL_IPV6, option: k.IPV6_FREEBIND },
  /** Binds an address only: the port is chosen at connect, so that ports are not used up. Works for IPv6 sockets too. */
  bindAddressNoPort: { name: "IP_BIND_ADDRESS_NO_PORT", level: k.SOL_IP, option: k.IP_BIND_ADDRESS_NO_PORT },
} as const satisfies Record<string, SocketOption>;

const INT_SIZE = 4;
const intCell = NativeBuffer.alloc(INT_SIZE);
const intView = new Int32Array(intCell.bytes.buffer, intCell.bytes.byteOffset, 1);
const lengthCell = NativeBuffer.alloc(INT_SIZE);
const lengthView = new Uint32Array(lengthCell.bytes.buffer, lengthCell.bytes.byteOffset, 1);
/** `{ l_onoff: 1, l_linger: 0 }`: close sends RST. */
const resetOnClose = NativeBuffer.alloc(lingerLayout.size);
resetOnClose.bytes.writeInt32LE(1, lingerLayout.onOff);

/** 0 or a negative errno. */
export function setOption(socket: Descriptor, { level, option }: SocketOption, value: number): number {
  intView[0] = value;
  return calls.setsockopt(socket.fd, level, option, intCell.pointer, INT_SIZE) < 0 ? lastError() : 0;
}

/** The value (an unsigned SO_MARK may come out negative), or undefined when it cannot be read: see `optionError`. */
export function getOption(socket: Descriptor, option: SocketOption): number | undefined {
  return optionError(socket, option) < 0 ? undefined : intView[0];
}

/** As `setOption`, for reading: 0 or a negative errno. */
function optionError(socket: Descriptor, { level, option }: SocketOption): number {
  lengthView[0] = INT_SIZE;
  return calls.getsockopt(socket.fd, level, option, intCell.pointer, lengthCell.pointer) < 0 ? lastError() : 0;
}

/** The error that waits on the socket, as 0 or a negative errno; clears it. */
export function takeError(socket: Descriptor): number {
  const error = optionError(socket, SocketOptions.error);
  return error < 0 ? error : 0 - (intView[0] as number);
}

/** From now on, closing sends RST and drops what was not sent yet. */
export function setResetOnClose(socket: Descriptor): number {
  const result = calls.setsockopt(socket.fd, k.SOL_SOCKET, k.SO_LINGER, resetOnClose.pointer, lingerLayout.size);
  return result < 0 ? lastError() : 0;
}

export interface KeepAliveOptions {
  readonly idleSeconds: number;
  readonly intervalSeconds: number;
  readonly retries: number;
  /** 0 or absent leaves the kernel's default. */
  readonly userTimeoutMs?: number;
}

/** Keep-alive probes as given; 0 or the first negative errno. */
export function setKeepAlive(socket: Descriptor, options: KeepAliveOptions): number {
  const { idleSeconds, intervalSeconds, retries, userTimeoutMs = 0 } = options;
  return (
    setOption(socket, SocketOptions.keepAlive, 1) ||
    setOption(socket, SocketOptions.keepIdleSeconds, idleSeconds) ||
    setOption(socket, SocketOptions.keepIntervalSeconds, intervalSeconds) ||
    setOption(socket, SocketOptions.keepCount, retries) ||
    (userTimeoutMs > 0 ? setOption(socket, SocketOptions.userTimeoutMs, userTimeoutMs) : 0)
  );
}

/** IP_TRANSPARENT of the socket's family (k.AF_INET6: both, since a dual-stack socket carries IPv4 too). Needs NET_ADMIN or NET_RAW. */
export function setTransparent(socket: Descriptor, family: number): number {
  if (family !== k.AF_INET6) return setOption(socket, SocketOptions.transparentV4, 1);
  // IPv6 decides; IP_TRANSPARENT on an IPv6 socket is the same flag in the kernel.
  return setOption(socket, SocketOptions.transparentV6, 1);
}

/** What a socket needs before it may bind an address that is not this machine's. 0 or the first negative errno. */
export function allowForeignSource(socket: Descriptor, family: number): number {
  const freebind = family === k.AF_INET6 ? SocketOptions.freebindV6 : SocketOptions.freebindV4;
  return (
    setTransparent(socket, family) ||
    setOption(socket, freebind, 1) ||
    setOption(socket, SocketOptions.bindAddressNoPort, 1)
  );
}
