import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "@stricli/core";
import { app } from "./app.ts";
import type { CliContext } from "./context.ts";

interface Outcome {
  readonly out: string;
  readonly error: string;
  readonly exitCode: number | string | null | undefined;
  readonly started: readonly (readonly string[])[];
}

async function tulle(...args: string[]): Promise<Outcome> {
  let out = "";
  let error = "";
  const started: string[][] = [];
  const context: CliContext = {
    process: { stdout: { write: (text) => void (out += text) }, stderr: { write: (text) => void (error += text) } },
    runProcess: (program, rest) => {
      started.push([program.split("/apps/")[1] ?? program, ...rest]);
      return Promise.resolve(7);
    },
    connect: () => Promise.reject(new Error("no cluster in this test")),
    ask: () => Promise.resolve(undefined),
    readText: () => Promise.reject(new Error("no files in this test")),
  };
  await run(app, args, context);
  return { out, error, exitCode: context.process.exitCode, started };
}

test("tulle up runs the local mesh and ends with its exit code", async () => {
  const { started, exitCode } = await tulle("up", "some/dir", "--name", "demo", "--port-offset", "1000");
  assert.deepEqual(started, [
    ["local/src/main.ts", "some/dir", "--name", "demo", "--port-offset", "1000", "--ready-timeout", "120"],
  ]);
  assert.equal(exitCode, 7);
});

test("tulle up takes the current directory unless told otherwise", async () => {
  const { started } = await tulle("up");
  assert.equal(started[0]?.[1], ".");
});

test("tulle down ends the local mesh, and forgets it when told so", async () => {
  assert.deepEqual((await tulle("down")).started, [["local/src/main.ts", "down", "--name", "local"]]);
  const { started, exitCode } = await tulle("down", "--name", "demo", "--purge");
  assert.deepEqual(started, [["local/src/main.ts", "down", "--name", "demo", "--purge"]]);
  assert.equal(exitCode, 7);
});

test("a wrong number is an error that names the flag", async () => {
  const { started, error, exitCode } = await tulle("up", "--port-offset", "lots");
  assert.deepEqual(started, []);
  assert.match(error, /port-offset.*"lots" is not a whole number from 0 to 60000/s);
  assert.notEqual(exitCode, 0);
});

test("an unknown command is an error", async () => {
  const { error, exitCode } = await tulle("upp");
  assert.match(error, /upp/);
  assert.notEqual(exitCode, 0);
});

test("tulle version and tulle help say what they are asked", async () => {
  assert.match((await tulle("version", "--no-remote")).out, /^client version: \d+\.\d+\.\d+\n$/);
  assert.match((await tulle("help")).out, /up\s+Run a mesh on this machine/);
  assert.match((await tulle("help", "up")).out, /Needs root/);
});
