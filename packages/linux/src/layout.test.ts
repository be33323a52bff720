import assert from "node:assert/strict";
import { test } from "node:test";
import * as layout from "./layout.ts";

/** Offsets and sizes as the kernel's headers give them, worked out by hand from the field types (uapi headers). */
const FIELDS: Readonly<Record<string, readonly [actual: number, expected: number]>> = {
  "epoll_event size, x86-64, packed": [layout.epollEventLayouts.x64.size, 4 + 8],
  "epoll_event data, x86-64": [layout.epollEventLayouts.x64.data, 4],
  "epoll_event size, arm64": [layout.epollEventLayouts.arm64.size, 16],
  "epoll_event data, arm64, aligned to 8": [layout.epollEventLayouts.arm64.data, 8],
  sockaddr_in: [layout.sockaddrLayout.v4.size, 2 + 2 + 4 + 8],
  sockaddr_in6: [layout.sockaddrLayout.v6.size, 2 + 2 + 4 + 16 + 4],
  "sockaddr_in6 address": [layout.sockaddrLayout.v6.address, 2 + 2 + 4],
  sockaddr_un: [layout.sockaddrLayout.unix.size, 2 + 108],
  msghdr: [layout.msghdrLayout.size, 8 + (4 + 4) + 8 + 8 + 8 + 8 + (4 + 4)],
  "msghdr control": [layout.msghdrLayout.control, 32],
  "msghdr flags": [layout.msghdrLayout.flags, 48],
  iovec: [layout.iovecLayout.size, 8 + 8],
  "cmsghdr data": [layout.cmsghdrLayout.data, 8 + 4 + 4],
  "statx inode": [layout.statxLayout.inode, 4 + 4 + 8 + 4 + 4 + 4 + 2 + 2],
  "statx device": [layout.statxLayout.deviceMajor, 40 + 8 + 8 + 8 + 4 * 16 + 4 + 4],
  linger: [layout.lingerLayout.size, 4 + 4],
  rlimit64: [layout.rlimitLayout.size, 8 + 8],
};

for (const [name, [actual, expected]] of Object.entries(FIELDS)) {
  test(`layout: ${name}`, () => assert.equal(actual, expected));
}

test("every address fits in the largest buffer", () => {
  const { maxSize, unix, v4, v6 } = layout.sockaddrLayout;
  assert.ok(maxSize >= Math.max(unix.size, v4.size, v6.size));
});

test("an architecture without a layout is refused by name", () => {
  assert.equal(layout.architectureOf("x64"), "x64");
  assert.equal(layout.architectureOf("arm64"), "arm64");
  assert.throws(() => layout.architectureOf("riscv64"), /riscv64 is not supported/);
});
