import assert from "node:assert/strict";
import { test } from "node:test";
import { decodePacket } from "./packet.ts";
import { PcapReader } from "./pcap.ts";

/** One Ethernet frame: IPv4, UDP, 10.0.0.1:53 → 10.0.0.2:1024, payload "hi", padded to 60 bytes. */
function frame(): Buffer {
  const bytes = Buffer.alloc(60);
  bytes.writeUInt16BE(0x0800, 12);
  bytes.writeUInt8(0x45, 14);
  bytes.writeUInt16BE(30, 16);
  bytes.writeUInt8(17, 23);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  bytes.writeUInt16BE(53, 34);
  bytes.writeUInt16BE(1024, 36);
  bytes.write("hi", 42);
  return bytes;
}

function pcap(bigEndian: boolean): Buffer {
  const word = (value: number) => {
    const bytes = Buffer.alloc(4);
    if (bigEndian) bytes.writeUInt32BE(value);
    else bytes.writeUInt32LE(value);
    return bytes;
  };
  const body = frame();
  const header = [0xa1b2c3d4, 0x00020004, 0, 0, 262144, 1];
  return Buffer.concat([...[...header, 12, 500_000, body.length, body.length].map(word), body]);
}

for (const bigEndian of [false, true]) {
  test(`a ${bigEndian ? "big" : "little"}-endian file is read in pieces of any size`, () => {
    const file = pcap(bigEndian);
    for (const size of [1, 7, 1000]) {
      const reader = new PcapReader();
      const frames = [];
      for (let at = 0; at < file.length; at += size) frames.push(...reader.push(file.subarray(at, at + size)));
      assert.equal(frames.length, 1);
      const packet = frames[0] && decodePacket(frames[0]);
      assert.equal(packet?.timeMs, 12_500);
      assert.equal(packet?.protocol, "udp");
      assert.deepEqual(packet?.source, { ip: "10.0.0.1", port: 53 });
      assert.deepEqual(packet?.destination, { ip: "10.0.0.2", port: 1024 });
      assert.equal(Buffer.from(packet?.payload ?? []).toString(), "hi", "without the padding");
    }
  });
}

test("what is no pcap is refused, and a frame that is cut off decodes to nothing", () => {
  assert.throws(() => new PcapReader().push(Buffer.alloc(24)), RangeError);
  for (let length = 0; length < 38; length++) {
    const bytes = Uint8Array.from(frame().subarray(0, length));
    assert.equal(decodePacket({ timeMs: 0, bytes, wireLength: 60, linkType: 1 }), undefined);
  }
});
