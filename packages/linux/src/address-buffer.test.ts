import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressBuffer, familyOf, ipFromWords, isMappedV4, NO_ADDRESS } from "./address-buffer.ts";
import { AF_INET, AF_INET6 } from "./constants.ts";

const CASES: readonly (readonly [ip: string, port: number, family: number, hex: string])[] = [
  ["127.0.0.1", 80, AF_INET, `02000050 7f000001 ${"00".repeat(8)}`],
  ["255.254.253.252", 65535, AF_INET, `0200ffff fffefdfc ${"00".repeat(8)}`],
  ["::1", 15001, AF_INET6, `0a003a99 00000000 ${"00".repeat(15)}01 00000000`],
  ["2001:db8::ff:1", 0, AF_INET6, "0a000000 00000000 20010db8000000000000000000ff0001 00000000"],
];

for (const [ip, port, family, hex] of CASES) {
  test(`${ip} port ${port} is written as the kernel reads it, and read back`, () => {
    const address = new AddressBuffer();
    const length = address.encode(ip, port);
    assert.equal(address.memory.bytes.toString("hex", 0, length), hex.replaceAll(" ", ""));
    assert.equal(address.family, family);
    assert.equal(familyOf(ip), family);
    assert.deepEqual(address.decode(), { ip, port });
    assert.equal(ipFromWords(address.a, address.b, address.c, address.d), ip);
    assert.equal(isMappedV4(address.a, address.b, address.c), family === AF_INET);
  });
}

test("an IPv4 address for an IPv6 socket is written mapped, and read back as IPv4", () => {
  const address = new AddressBuffer();
  assert.equal(address.encode("10.1.2.3", 53, AF_INET6), 28);
  assert.equal(address.memory.bytes.toString("hex", 8, 24), "00000000000000000000ffff0a010203");
  assert.deepEqual(address.decode(), { ip: "10.1.2.3", port: 53 });
});

test("nothing of a longer address stays behind a shorter one", () => {
  const address = new AddressBuffer();
  address.encode("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1);
  address.encode("1.2.3.4", 1);
  assert.equal(address.memory.bytes.toString("hex", 8, 16), "00".repeat(8));
});

test("what is no address has no length, and what is no IP address reads as none", () => {
  const address = new AddressBuffer();
  for (const ip of ["", "example.com", "1.2.3", "::g"]) assert.equal(address.encode(ip, 1), 0, ip);
  for (const port of [-1, 65536, 1.5, Number.NaN]) assert.equal(address.encode("1.2.3.4", port), 0, `${port}`);
  address.prepare();
  assert.deepEqual(address.decode(), NO_ADDRESS);
});
