import { lstatSync, unlinkSync } from "node:fs";
import { MessageHeader } from "./ancillary.ts";
import { calls, lastError } from "./calls.ts";
import * as k from "./constants.ts";
import { CLOSED, Descriptor } from "./descriptor.ts";
import { Errno, orThrow, SystemError } from "./errno.ts";
import { sockaddrLayout } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";
import { openSocket } from "./socket.ts";

/** Connections that wait to be accepted. */
const BACKLOG = 64;
const FLAGS = k.SOCK_SEQPACKET | k.SOCK_NONBLOCK | k.SOCK_CLOEXEC;

/** A Unix socket that keeps packets apart and carries descriptors (SCM_RIGHTS). Non-blocking. */
export class SeqpacketSocket {
  readonly descriptor: Descriptor;
  readonly #header = new MessageHeader();
  #received: Descriptor[] = [];
  #truncated = false;
  #descriptorsTruncated = false;

  /** Takes over a connected socket. */
  constructor(descriptor: Descriptor) {
    this.descriptor = descriptor;
  }

  /** Throws SystemError: ENOENT and ECONNREFUSED when nobody listens, EAGAIN when the listener's queue is full. */
  static connect(path: string): SeqpacketSocket {
    const operation = `connect to ${path}`;
    const address = unixAddress(path, operation);
    const descriptor = openSocket(k.AF_UNIX, "seqpacket");
    if (calls.connect(descriptor.fd, address.pointer, address.length) < 0) {
      const error = lastError();
      descriptor.close();
      throw new SystemError(operation, error);
    }
    return new SeqpacketSocket(descriptor);
  }

  /** Two ends of one connection. Throws SystemError. */
  static pair(): readonly [SeqpacketSocket, SeqpacketSocket] {
    const numbers = NativeBuffer.alloc(8);
    const result = calls.socketpair(k.AF_UNIX, FLAGS, 0, numbers.pointer);
    orThrow(result < 0 ? lastError() : 0, "create a pair of sockets");
    const end = (at: number) => new SeqpacketSocket(new Descriptor(numbers.bytes.readInt32LE(at), "seqpacket"));
    return [end(0), end(4)];
  }

  get closed(): boolean {
    return this.descriptor.closed;
  }

  /**
   * Sends one packet, with descriptors (at most 16; the receiver gets duplicates, the caller keeps its own). Returns its
   * length, -EAGAIN when the receiver's queue is full, or another negative errno. A packet is sent whole or not at all.
   */
  send(buffer: NativeBuffer, offset: number, length: number, descriptors: readonly Descriptor[] = []): number {
    if (this.closed) return CLOSED;
    if (length === 0) throw new RangeError("an empty packet would look like the end of the connection");
    this.#header.prepareSend(buffer, offset, length, descriptors);
    const count = calls.sendmsg(this.descriptor.fd, this.#header.pointer, k.MSG_NOSIGNAL);
    return count < 0 ? lastError() : count;
  }

  /**
   * Receives one packet: its length (at most `length`: see `truncated`), 0 at the end, -EAGAIN, or another negative errno.
   * Its descriptors wait for `takeDescriptors`; those that nobody has taken are closed by the next call.
   */
  receive(buffer: NativeBuffer, offset: number, length: number): number {
    if (this.closed) return CLOSED;
    this.#dropReceived();
    this.#header.prepareReceive(buffer, offset, length);
    const count = calls.recvmsg(this.descriptor.fd, this.#header.pointer, k.MSG_CMSG_CLOEXEC);
    if (count < 0) return lastError();
    this.#received = this.#header.receivedNumbers().map((fd) => new Descriptor(fd, "received"));
    this.#truncated = this.#header.truncated;
    this.#descriptorsTruncated = this.#header.descriptorsTruncated;
    return count;
  }

  /** Whether the last packet was longer than its buffer: the rest is lost. */
  get truncated(): boolean {
    return this.#truncated;
  }

  /** Whether the last packet had more descriptors than 16: the kernel has closed the rest. */
  get descriptorsTruncated(): boolean {
    return this.#descriptorsTruncated;
  }

  /** The last packet's descriptors, close-on-exec, owned by the caller from now on. */
  takeDescriptors(): Descriptor[] {
    const taken = this.#received;
    this.#received = [];
    return taken;
  }

  close(): void {
    this.#dropReceived();
    this.descriptor.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #dropReceived(): void {
    for (const descriptor of this.#received) descriptor.close();
    this.#received = [];
    this.#truncated = false;
    this.#descriptorsTruncated = false;
  }
}

/** A listening Unix socket for packets. */
export class SeqpacketListener {
  readonly descriptor: Descriptor;
  readonly #path: string;
  readonly #inode: number;

  private constructor(descriptor: Descriptor, path: string) {
    this.descriptor = descriptor;
    this.#path = path;
    this.#inode = lstatSync(path).ino;
  }

  /** Listens at `path`; a socket that was left there is removed first, any other file is an error. Throws SystemError. */
  static listen(path: string): SeqpacketListener {
    const operation = `listen on ${path}`;
    const address = unixAddress(path, operation);
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
    const descriptor = openSocket(k.AF_UNIX, "seqpacket", "seqpacket listener");
    try {
      const bound = calls.bind(descriptor.fd, address.pointer, address.length);
      orThrow(bound < 0 ? lastError() : 0, operation);
      const listening = calls.listen(descriptor.fd, BACKLOG);
      orThrow(listening < 0 ? lastError() : 0, operation);
      return new SeqpacketListener(descriptor, path);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /** A connection, or a negative errno (-EAGAIN: none waits). */
  accept(): SeqpacketSocket | number {
    const fd = calls.accept4(this.descriptor.fd, 0n, 0n, k.SOCK_NONBLOCK | k.SOCK_CLOEXEC);
    return fd < 0 ? lastError() : new SeqpacketSocket(new Descriptor(fd, "seqpacket"));
  }

  /** Stops listening and removes the file, unless somebody else listens there by now. */
  close(): void {
    if (this.descriptor.closed) return;
    this.descriptor.close();
    if (lstatSync(this.#path, { throwIfNoEntry: false })?.ino === this.#inode) unlinkSync(this.#path);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** `struct sockaddr_un`. Throws SystemError when the path does not fit (107 bytes). */
function unixAddress(path: string, operation: string): NativeBuffer {
  const name = Buffer.from(path);
  const { family, unix } = sockaddrLayout;
  if (name.length === 0 || name.length >= unix.pathSize || name.includes(0)) {
    throw new SystemError(`${operation}: a socket's path is 1 to ${unix.pathSize - 1} bytes long`, Errno.EINVAL);
  }
  const address = NativeBuffer.alloc(unix.size);
  address.bytes.writeUInt16LE(k.AF_UNIX, family);
  name.copy(address.bytes, unix.path);
  return address;
}
