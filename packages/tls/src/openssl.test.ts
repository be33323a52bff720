import assert from "node:assert/strict";
import { test } from "node:test";
import { MeshError } from "@tulle/base";
import { bindFirst, openssl, sharedOpenSsl } from "./openssl.ts";

const unavailable = (error: unknown) => {
  assert.ok(error instanceof MeshError);
  assert.equal(error.code, "OPENSSL_UNAVAILABLE");
  assert.match(error.message, /use an official build of Node.js/);
  assert.ok(error.cause instanceof Error);
  return true;
};

test("this Node brings OpenSSL 3.5 or newer", () => {
  assert.ok(openssl().OpenSSL_version_num() >= 0x3050_0000n);
  assert.equal(openssl(), openssl());
});

test("a library that is missing, or that is no OpenSSL, is passed over, and without any the error says what to do", () => {
  assert.throws(() => bindFirst(["/nowhere/libssl.so.3"]), unavailable);
  assert.throws(() => bindFirst(["libc.so.6"]), unavailable);
  assert.throws(
    () => bindFirst([]),
    (error) => error instanceof MeshError,
  );
  assert.ok(bindFirst(["/nowhere/libssl.so.3", null]).OpenSSL_version_num() > 0n);
});

test("a shared libssl is found among the mapped files, once", () => {
  const maps = [
    "7f00-7f01 r--p 00000000 08:01 1 /usr/lib/x86_64-linux-gnu/libssl.so.3",
    "7f01-7f02 r-xp 00001000 08:01 1 /usr/lib/x86_64-linux-gnu/libssl.so.3",
    "7f02-7f03 r-xp 00000000 08:01 2 /usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "7f03-7f04 rw-p 00000000 00:00 0 ",
    "7f04-7f05 r-xp 00000000 08:01 3 /opt/libssl.so.3.5.1.txt",
  ].join("\n");
  assert.deepEqual(sharedOpenSsl(maps), ["/usr/lib/x86_64-linux-gnu/libssl.so.3"]);
  assert.deepEqual(sharedOpenSsl(""), []);
});
