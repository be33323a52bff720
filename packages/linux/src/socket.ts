import type { AddressBuffer } from "./address-buffer.ts";
import { calls, lastError } from "./calls.ts";
import * as k from "./constants.ts";
import { Descriptor } from "./descriptor.ts";
import { Errno, SystemError } from "./errno.ts";
import type { NativeBuffer } from "./native-buffer.ts";

/**
 * Socket calls. All return what the kernel returns, or a negative errno; none blocks: every socket made here is
 * non-blocking and close-on-exec. A closed descriptor gives -EBADF.
 */

export type SocketType = "stream" | "datagram" | "seqpacket";

const TYPES: Readonly<Record<SocketType, number>> = {
  stream: k.SOCK_STREAM,
  datagram: k.SOCK_DGRAM,
  seqpacket: k.SOCK_SEQPACKET,
};

const NEW_SOCKET_FLAGS = k.SOCK_NONBLOCK | k.SOCK_CLOEXEC;

const { read: sysRead, write: sysWrite, accept4: sysAccept4 } = calls;

/** A new socket in the thread's current network namespace. Throws SystemError. */
export function openSocket(family: number, type: SocketType, kind: string = type): Descriptor {
  const fd = calls.socket(family, TYPES[type] | NEW_SOCKET_FLAGS, 0);
  if (fd < 0) throw new SystemError(`create a ${kind} socket`, lastError());
  return new Descriptor(fd, kind);
}

/** Binds to the first `length` bytes of `address` (what `encode` has returned). */
export function bind(socket: Descriptor, address: AddressBuffer, length: number): number {
  address.memory.check(0, length);
  return calls.bind(socket.fd, address.memory.pointer, length) < 0 ? lastError() : 0;
}

export function listen(socket: Descriptor, backlog: number): number {
  return calls.listen(socket.fd, backlog) < 0 ? lastError() : 0;
}

/**
 * The number of a new connection (wrap it in a Descriptor at once), -EAGAIN when none waits, or another negative errno.
 * Its peer is in `peer`. TCP_NODELAY, keep-alive and SO_MARK come from the listener (Linux copies them).
 */
export function accept(listener: Descriptor, peer: AddressBuffer): number {
  peer.prepare();
  const fd = sysAccept4(listener.fd, peer.memory.pointer, peer.lengthCell.pointer, NEW_SOCKET_FLAGS);
  return fd < 0 ? lastError() : fd;
}

/** 0, -EINPROGRESS (the usual answer), or another negative errno. */
export function connect(socket: Descriptor, address: AddressBuffer, length: number): number {
  address.memory.check(0, length);
  return calls.connect(socket.fd, address.memory.pointer, length) < 0 ? lastError() : 0;
}

/** Bytes read, 0 at the end, or a negative errno. */
export function read(socket: Descriptor, buffer: NativeBuffer, offset: number, length: number): number {
  buffer.check(offset, length);
  const count = sysRead(socket.fd, buffer.pointerAt(offset), length);
  return count < 0 ? lastError() : count;
}

/** Bytes written, or a negative errno. SIGPIPE is ignored in every Node process (`ignoreBrokenPipes` makes sure). */
export function write(socket: Descriptor, buffer: NativeBuffer, offset: number, length: number): number {
  buffer.check(offset, length);
  const count = sysWrite(socket.fd, buffer.pointerAt(offset), length);
  return count < 0 ? lastError() : count;
}

/**
 * Receives one datagram; its sender goes to `sender`. Returns its real length (MSG_TRUNC): more than `length` means that
 * the rest is lost.
 */
export function receiveFrom(
  socket: Descriptor,
  buffer: NativeBuffer,
  offset: number,
  length: number,
  sender: AddressBuffer,
): number {
  buffer.check(offset, length);
  sender.prepare();
  const count = calls.recvfrom(
    socket.fd,
    buffer.pointerAt(offset),
    length,
    k.MSG_TRUNC,
    sender.memory.pointer,
    sender.lengthCell.pointer,
  );
  return count < 0 ? lastError() : count;
}

/** Sends one datagram to the first `addressLength` bytes of `to`; returns its length or a negative errno. */
export function sendTo(
  socket: Descriptor,
  buffer: NativeBuffer,
  offset: number,
  length: number,
  to: AddressBuffer,
  addressLength: number,
): number {
  buffer.check(offset, length);
  to.memory.check(0, addressLength);
  const pointer = buffer.pointerAt(offset);
  const count = calls.sendto(socket.fd, pointer, length, k.MSG_NOSIGNAL, to.memory.pointer, addressLength);
  return count < 0 ? lastError() : count;
}

/** Sends FIN after what was written. -ENOTCONN when the connection is gone. */
export function shutdownWrite(socket: Descriptor): number {
  return calls.shutdown(socket.fd, k.SHUT_WR) < 0 ? lastError() : 0;
}

/** The socket's own address, into `address`. */
export function localAddress(socket: Descriptor, address: AddressBuffer): number {
  address.prepare();
  const result = calls.getsockname(socket.fd, address.memory.pointer, address.lengthCell.pointer);
  return result < 0 ? lastError() : 0;
}

/** The peer's address, into `address`. */
export function peerAddress(socket: Descriptor, address: AddressBuffer): number {
  address.prepare();
  const result = calls.getpeername(socket.fd, address.memory.pointer, address.lengthCell.pointer);
  return result < 0 ? lastError() : 0;
}

/** Where the packets of a redirected connection were sent to, into `address`; by the peer's family. -ENOENT: not redirected. */
export function originalDestination(socket: Descriptor, v6: boolean, address: AddressBuffer): number {
  address.prepare();
  const level = v6 ? k.SOL_IPV6 : k.SOL_IP;
  const option = v6 ? k.IP6T_SO_ORIGINAL_DST : k.SO_ORIGINAL_DST;
  const pointer = address.memory.pointer;
  return calls.getsockopt(socket.fd, level, option, pointer, address.lengthCell.pointer) < 0 ? lastError() : 0;
}

/** Makes sure that writing to a closed connection gives -EPIPE and no signal. Node ignores SIGPIPE already. */
export function ignoreBrokenPipes(): void {
  calls.signal(k.SIGPIPE, k.SIG_IGN);
}

/** Whether an error of accept says that resources ran out, so that trying again at once is of no use. */
export function isOutOfResources(error: number): boolean {
  return error === -Errno.EMFILE || error === -Errno.ENFILE || error === -Errno.ENOBUFS || error === -Errno.ENOMEM;
}
