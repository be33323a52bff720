/**
 * Checks the documents like code: commands exist (and run, where the block says ```sh run), links lead somewhere, every
 * bound in docs/limits.md is a constant of that value. Prints what is wrong and exits 1 when anything is.
 */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { boundProblem, boundsOf, commandsOf, linksOf } from "./documents.ts";

const root = dirname(import.meta.dirname);
const DOCUMENTS = ["*.md", "docs/**/*.md", "bench/*.md", "{packages,apps,samples,charts}/*/README.md"];
const LIMITS = "docs/limits.md";
/** A document's command is an example, not a workload. */
const COMMAND_TIMEOUT_MS = 60_000;
const SHELL_WORDS = ["cd", "export", "sudo", "kill", "ulimit"];

const scripts = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> })
  .scripts;
const problems: string[] = [];
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
    if (program === undefined || SHELL_WORDS.includes(program)) continue;
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

function inPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}
