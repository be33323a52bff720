/**
 * Checks the documents like code: commands exist (and run, where the block says ```sh run), tulle has the commands and flags
 * that it is shown with, links lead somewhere, every bound in docs/limits.md is a constant of that value. Prints what is wrong
 * and exits 1 when anything is.
 */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { boundProblem, boundsOf, commandsOf, linksOf, unknownFlag } from "./documents.ts";

const root = dirname(import.meta.dirname);
const DOCUMENTS = ["*.md", "docs/**/*.md", "bench/*.md", "{packages,apps,samples,charts}/*/README.md"];
const LIMITS = "docs/limits.md";
/** A document's command is an example, not a workload. */
const COMMAND_TIMEOUT_MS = 60_000;
const SHELL_WORDS = ["cd", "export", "sudo", "kill", "ulimit", "alias"];
/** Programs of the reader's own, for a cluster of the reader's own: nothing of ours needs them. */
const READERS_PROGRAMS = ["kubectl"];
const TULLE = "apps/cli/src/main.js";

const scripts = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> })
  .scripts;
const problems: string[] = [];
const helps = new Map<string, string | undefined>();
const documents = DOCUMENTS.flatMap((pattern) => globSync(pattern, { cwd: root })).toSorted();

for (const document of documents) {
  const text = readFileSync(join(root, document), "utf8");
  for (const { line, command, run } of commandsOf(text)) {
    const problem = run ? failureOf(command) : missingOf(command);
    if (problem !== undefined) problems.push(`${document}:${line}: ${problem}`);
  }
  for (const { line, target } of linksOf(text)) {
    if (!existsSync(join(root, dirname(document), target))) problems.push(`${document}:${line}: no ${target}`);
  }
  if (document !== LIMITS) continue;
  const bounds = boundsOf(text);
  if (bounds.length === 0) problems.push(`${document}: no bounds found`);
  for (const bound of bounds) {
    const path = join(root, bound.file);
    const problem = boundProblem(bound, existsSync(path) ? readFileSync(path, "utf8") : undefined);
    if (problem !== undefined) problems.push(`${document}:${bound.line}: ${problem}`);
  }
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;

/** Runs a command; undefined when it succeeds. */
function failureOf(command: string): string | undefined {
  const result = spawnSync("bash", ["-euc", command], { cwd: root, encoding: "utf8", timeout: COMMAND_TIMEOUT_MS });
  if (result.status === 0) return undefined;
  return `${command}: ${result.error?.message ?? `exit code ${result.status}`}\n${result.stderr}`;
}

/** Looks whether the program of each part of a command exists: an npm script, a file of the repository, a tool. */
function missingOf(command: string): string | undefined {
  for (const part of command.split(/\s*(?:\|\||&&|[|;])\s*/)) {
    const words = part.split(/\s+/).filter((word) => !/^[A-Z_]+=/.test(word) && word !== "sudo" && word !== "&");
    const [program, ...rest] = words;
    if (program === undefined || [...SHELL_WORDS, ...READERS_PROGRAMS].includes(program)) continue;
    if (program === "tulle") {
      const problem = tulleProblem(rest);
      if (problem !== undefined) return problem;
      continue;
    }
    if (program === "npm") {
      const script = rest[0] === "run" ? rest[1] : rest[0];
      if (script !== undefined && !["ci", "install"].includes(script) && scripts[script] === undefined) {
        return `package.json has no script ${script}`;
      }
    } else if (program.includes("/") ? !existsSync(join(root, program)) : !inPath(program)) {
      return `no program ${program}`;
    }
    const file = rest.find((word) => /\.(ts|yaml|cfg)$/.test(word) && !word.startsWith("-"));
    if (file !== undefined && globSync(file, { cwd: root }).length === 0) return `no file ${file}`;
  }
  return undefined;
}

/** What the command line does not have of what a document shows of it. */
function tulleProblem(words: readonly string[]): string | undefined {
  const [first = "--help", second = ""] = words;
  const top = helpOf(first);
  if (top === undefined) return `tulle has no command ${first}`;
  const isGroup = /^COMMANDS$/m.test(top) && first !== "--help";
  const help = isGroup ? helpOf(`${first} ${second}`) : top;
  if (help === undefined) return `tulle ${first} has no command ${second}`;
  const flag = unknownFlag(words, help);
  return flag === undefined ? undefined : `tulle ${first} has no flag ${flag}`;
}

/** Undefined: there is no such command. */
function helpOf(command: string): string | undefined {
  if (!helps.has(command)) {
    const args = [join(root, TULLE), ...command.split(" "), "--help"];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: COMMAND_TIMEOUT_MS });
    helps.set(command, status === 0 ? stdout : undefined);
  }
  return helps.get(command);
}

function inPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}
