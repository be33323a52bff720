import assert from "node:assert/strict";
import { test } from "node:test";
import { DNS_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT, type SocketAddress } from "@tulle/base";
import type { Namespace } from "@tulle/reactor";
import { BorrowedPorts } from "./borrowed-ports.ts";
import type { ThreadContext } from "./context.ts";

const TARGET = { ip: "10.0.0.1", port: 8080 };
const CLIENT = "10.0.0.2";
const NAMESPACE = {} as Namespace;

function ports(openConnections: (() => unknown) | undefined, namespace: Namespace | undefined = NAMESPACE) {
  const context = { reactor: { random: () => 0.999_999 }, openConnections };
  return new BorrowedPorts(context as unknown as ThreadContext, namespace);
}

/** `taken`: ports of the client that have a connection to the application. */
function table(taken: readonly number[] = []) {
  return () => ({
    has: (local: SocketAddress, peer: SocketAddress) =>
      local === TARGET && peer.ip === CLIENT && taken.includes(peer.port),
    close() {},
  });
}

const four = (chosen: BorrowedPorts) => Array.from({ length: 4 }, () => chosen.choose(TARGET, CLIENT));

test("connections to the application come from one port after the other, none of which kernels give out", () => {
  assert.deepEqual(four(ports(table())), [32_767, 16_384, 16_385, 16_386]);
});

test("a port with which the client has a connection to the application is left out", () => {
  assert.deepEqual(four(ports(table([32_767, 16_385, 16_386]))), [16_384, 16_387, 16_388, 16_389]);
});

test("where several in a row are taken, the kernel chooses", () => {
  const chosen = ports(table([32_767, 16_384, 16_385, 16_386]));
  assert.deepEqual([chosen.choose(TARGET, CLIENT), chosen.choose(TARGET, CLIENT)], [undefined, 16_387]);
});

test("so it does where nobody can say what is taken", () => {
  const fail = () => {
    throw new Error("EMFILE");
  };
  assert.equal(ports(undefined).choose(TARGET, CLIENT), undefined);
  assert.equal(ports(fail).choose(TARGET, CLIENT), undefined);
  assert.equal(ports(() => ({ has: fail, close() {} })).choose(TARGET, CLIENT), 32_767);
});

test("none of them is a port of ztunnel itself", () => {
  const chosen = ports(table());
  const all = new Set(Array.from({ length: 16_384 }, () => chosen.choose(TARGET, CLIENT) ?? 0));
  assert.equal(all.size, 16_384);
  const own = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT, DNS_PORT];
  assert.deepEqual(
    own.filter((port) => all.has(port)),
    [],
  );
});
