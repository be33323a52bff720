/**
 * Where the kernel keeps what, in bytes from the start of each structure. Everything here but `epoll_event` is the same
 * on x86-64 and arm64 (both little-endian LP64). The arm64 table is checked against the kernel's headers by a test of
 * numbers only: it has not been run on that hardware.
 */
export type Architecture = "x64" | "arm64";

export interface EpollEventLayout {
  readonly size: number;
  readonly events: number;
  readonly data: number;
}

/** `struct epoll_event` is packed on x86-64 and on no other architecture (linux/eventpoll.h, EPOLL_PACKED). */
export const epollEventLayouts: Readonly<Record<Architecture, EpollEventLayout>> = {
  x64: { size: 12, events: 0, data: 4 },
  arm64: { size: 16, events: 0, data: 8 },
};

/** Throws on an architecture whose layouts are not known: better than writing to the wrong place. */
export function architectureOf(name: string): Architecture {
  if (name === "x64" || name === "arm64") return name;
  throw new Error(`the processor architecture ${name} is not supported: use x64 or arm64`);
}

/** `struct sockaddr_in` and `sockaddr_in6`: the family in host order, the port and the addresses in network order. */
export const sockaddrLayout = {
  family: 0,
  port: 2,
  v4: { address: 4, size: 16 },
  v6: { flow: 4, address: 8, scope: 24, size: 28 },
  /** `struct sockaddr_un`: sun_path holds 108 bytes. */
  unix: { path: 2, pathSize: 108, size: 110 },
  /** Enough for each of the three. */
  maxSize: 112,
} as const;

/** `struct msghdr` with one `struct iovec` and room for control data, as seqpacket.ts lays them out in one buffer. */
export const msghdrLayout = {
  name: 0,
  nameLength: 8,
  iov: 16,
  iovLength: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
  size: 56,
} as const;

export const iovecLayout = { base: 0, length: 8, size: 16 } as const;

/** `struct cmsghdr`; data follows at 16, and each message is padded to 8 (CMSG_ALIGN). */
export const cmsghdrLayout = { length: 0, level: 8, type: 12, data: 16, align: 8 } as const;

/** `struct statx`: the same everywhere. */
export const statxLayout = { inode: 32, deviceMajor: 136, deviceMinor: 140, size: 256 } as const;

/** `struct linger`: two ints. */
export const lingerLayout = { onOff: 0, seconds: 4, size: 8 } as const;

/** `struct rlimit64`: two 64-bit numbers. */
export const rlimitLayout = { soft: 0, hard: 8, size: 16 } as const;

/** `struct ucred`: three ints. */
export const ucredLayout = { pid: 0, uid: 4, gid: 8, size: 12 } as const;
