import assert from "node:assert/strict";
import { test } from "node:test";
import { boundProblem, boundsOf, commandsOf, linksOf, unknownFlag } from "./documents.ts";

test("commands are taken from sh blocks alone, without comments, joined at backslashes", () => {
  const text = [
    "```sh",
    "npm start  # the mesh",
    "curl \\",
    "  localhost",
    "```",
    "```ts",
    "npm x",
    "```",
    "```sh run",
    "ls",
    "```",
  ];
  assert.deepEqual(commandsOf(text.join("\n")), [
    { line: 2, command: "npm start", run: false },
    { line: 3, command: "curl localhost", run: false },
    { line: 10, command: "ls", run: true },
  ]);
});

test("links into the repository are found, others are not", () => {
  const text = 'See [a](docs/a.md#part), [b](https://example.com), `[c](d)` and <img src="docs/x.svg">.\n[e](#here)';
  assert.deepEqual(linksOf(text), [
    { line: 1, target: "docs/a.md" },
    { line: 1, target: "docs/x.svg" },
  ]);
});

test("a bound must be in the code with the same value", () => {
  const text =
    "| Name | Value |\n|---|---|---|\n| `MAX_A` | `16 * 1024` bytes | `src/a.ts` | refused |\n| `idleMs` | 5 s | `src/a.ts` | closed |";
  const [a, idle] = boundsOf(text);
  assert.ok(a !== undefined && idle !== undefined);
  assert.equal(boundProblem(a, "export const MAX_A = 16*1024; // bytes"), undefined);
  assert.equal(boundProblem(a, "export const MAX_A: number = 16 * 1024;"), undefined);
  assert.equal(boundProblem(idle, "const defaults = { idleMs: 5_000 };"), undefined);
  assert.equal(
    boundProblem(idle, "interface Times {\n  readonly idleMs: number;\n}\nconst x = {\n  idleMs: 5_000,\n};"),
    undefined,
  );
  const [retry] = boundsOf("| `RETRY` | `{ firstMs: 50, mostMs: 2_000 }` | `src/a.ts` | waits |");
  assert.ok(retry !== undefined);
  assert.equal(boundProblem(retry, "const RETRY = { firstMs: 50, mostMs: 2_000 };"), undefined);
  assert.match(boundProblem(retry, "const RETRY = { firstMs: 50, mostMs: 200 };") ?? "", /mostMs: 200 in/);
  assert.match(boundProblem(a, "export const MAX_A = 32 * 1024;") ?? "", /is 32 \* 1024/);
  assert.match(boundProblem(a, "export const MAX_AB = 16 * 1024;") ?? "", /has no MAX_A/);
  assert.match(boundProblem(a, undefined) ?? "", /does not exist/);
});

test("a flag must be in the help of its command", () => {
  const help = "FLAGS\n  -f [--filename]...  File\n     [--remote/--no-remote]  Ask\n  -h  --help  Print";
  assert.equal(unknownFlag(["install", "-f", "a.yaml", "--no-remote", "--filename=b"], help), undefined);
  assert.equal(unknownFlag(["install", "--file", "a.yaml"], help), "--file");
  assert.equal(unknownFlag(["install", "-s", "a=b"], help), "-s");
  assert.equal(unknownFlag(["run", "--", "--other"], help), undefined);
});
