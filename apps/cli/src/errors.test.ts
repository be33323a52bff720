import assert from "node:assert/strict";
import { test } from "node:test";
import { StoreError, type StoreErrorCode } from "@tulle/store";
import { assertGolden } from "../test/golden.ts";
import { memoryCluster } from "../test/memory-cluster.ts";
import { tulle } from "../test/run-cli.ts";
import { shopObjects } from "../test/shop.ts";
import { describeError } from "./describe-error.ts";

/** What goes wrong, as a user reads it: each error says what, and what to do next. How the program ends: main.test.ts. */

const FILES: Readonly<Record<string, string>> = {
  "broken.yaml": "a: [1\n",
  "bomb.yaml": `a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [${"*a,".repeat(20)}*a]\nc: [${"*b,".repeat(20)}*b]\n`,
  "list.yaml": "- 1\n",
  "operator.yaml": "kind: IstioOperator\nspec: {components: {}}\n",
  "dump.json": "[]",
};

const WRONG: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["get-kind", ["get", "polcies"]],
  ["get-kind-unlike-any", ["get", "qqqqqqqqqq"]],
  ["get-name", ["get", "pod", "nobody", "-n", "shop"]],
  ["get-name-of-all", ["get", "pod", "cart", "-A"]],
  ["explain-no-question", ["explain", "cart", "till"]],
  ["explain-no-port", ["explain", "from", "cart", "to", "till"]],
  ["explain-nobody", ["explain", "from", "nobody", "to", "till:80"]],
  ["zc-node", ["zc", "workload", "--node", "n9"]],
  ["zc-pod", ["zc", "workload", "nobody"]],
  ["zc-two-sources", ["zc", "workload", "cart", "--node", "n1"]],
  ["zc-namespace", ["zc", "all", "-i", "elsewhere"]],
  ["zc-file", ["zc", "all", "-f", "dump.json"]],
  ["zc-silent", ["zc", "all", "--node", "n1"]],
  ["log-level", ["zc", "log", "--level", "lout"]],
  ["log-both", ["zc", "log", "--level", "info", "--reset"]],
  ["status-elsewhere", ["status", "-i", "elsewhere"]],
  ["uninstall-elsewhere", ["uninstall", "-i", "elsewhere"]],
  ["install-not-allowed", ["install"]],
  ["value-unknown", ["manifest", "generate", "--set", "cni.ambient.dnsCaptur=true"]],
  ["value-wrong", ["manifest", "generate", "--set", "cni.ambient.dnsCapture=maybe"]],
  ["value-without-equals", ["manifest", "generate", "--set", "hub"]],
  ["value-no-json", ["manifest", "generate", "--set", "pilot.tolerations=[x"]],
  ["value-profile", ["manifest", "generate", "--set", "profile=demo"]],
  ["values-no-yaml", ["manifest", "generate", "-f", "broken.yaml"]],
  ["values-bomb", ["manifest", "generate", "-f", "bomb.yaml"]],
  ["values-no-mapping", ["manifest", "generate", "-f", "list.yaml"]],
  ["values-operator", ["manifest", "generate", "-f", "operator.yaml"]],
  ["namespace", ["manifest", "generate", "-i", "Not/One"]],
];

for (const [name, args] of WRONG) {
  test(`tulle ${args.join(" ")} fails with what to do next`, async () => {
    const { out, error, exitCode } = await tulle(args, {
      connect: () => memoryCluster(shopObjects()),
      readText: (path) => Promise.resolve(FILES[path] ?? ""),
    });
    assert.deepEqual([out, exitCode], ["", 1]);
    assert.match(error, /^error: .*\n {2}next: \S.*\n$/s);
    assert.doesNotMatch(error, /fault of tulle/);
    assertGolden(`errors/${name}.txt`, error);
  });
}

test("what the API server answers comes with what to do about it", () => {
  const codes: readonly StoreErrorCode[] = ["NOT_FOUND", "CONFLICT", "EXISTS", "INVALID", "FORBIDDEN", "UNAVAILABLE"];
  const texts = codes.map((code) => describeError(new StoreError(code, `it says ${code}`)));
  assertGolden("errors/api-server.txt", texts.join(""));

  class Answer extends StoreError {
    override name = "Answer";
  }
  assert.equal(describeError(new Answer("CONFLICT", "it says CONFLICT")), texts[1], "a special one, too");
});

test("only what nobody foresaw has a stack, and asks for a report", async () => {
  const { error, exitCode } = await tulle(["status"], { connect: () => Promise.reject(new TypeError("odd")) });
  assert.equal(exitCode, 1);
  assert.match(error, /^error: TypeError: odd\n {4}at .*\n {2}next: this is a fault of tulle: please report it/s);
});

test("a mesh on this machine that cannot be started at all is told, too", async () => {
  for (const command of ["up", "down"]) {
    const runProcess = () => Promise.reject(new Error("spawn EAGAIN"));
    const { error, exitCode } = await tulle([command], { runProcess });
    assert.equal(exitCode, 1);
    assert.match(error, /^error: Error: spawn EAGAIN[^]*\n {2}next: /);
  }
});
