/** Who may import whom (ARCHITECTURE.md), as pure functions of a path and a source text. */
import { posix } from "node:path";
import { lineAt, scanRuntime, scanSource } from "./source-scan.ts";

export interface Violation {
  /** Path from the repository's root. */
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

/** What the package.json files declare. */
export interface Workspace {
  /** Files by specifier: `@tulle/mesh` → `packages/mesh/src/index.ts`, and further entries of a package. */
  readonly entries: ReadonlyMap<string, string>;
  /** npm dependencies by folder: `packages/xds`. */
  readonly byFolder: ReadonlyMap<string, ReadonlySet<string>>;
  /** Development dependencies of the root: for tests and scripts. */
  readonly development: ReadonlySet<string>;
}

/** A package may import packages of lower tiers only; apps stand above all of them. */
const TIERS: readonly (readonly string[])[] = [
  ["base"],
  ["api", "linux"],
  ["reactor", "tls", "pki", "store", "xds", "zds", "mesh", "telemetry", "lab"],
  ["h2"],
  ["hbone"],
  ["http"],
];
/** The only packages that may reach native code and raw addresses. */
const NATIVE_PACKAGES = ["linux", "tls"];
/** What tests may import besides: doubles, and namespaces to run in. */
const TEST_PACKAGES = ["testkit", "lab"];
const FORBIDDEN_FOR_APP: Readonly<Record<string, readonly string[]>> = {
  ztunnel: ["http", "store"],
  waypoint: ["store"],
};

/** Folders whose code runs on data threads; convert/ turns Kubernetes objects into the model and runs elsewhere. */
const DATA_THREAD_FOLDERS = [
  "apps/ztunnel/src/data/",
  "packages/h2/src/",
  "packages/hbone/src/",
  "packages/reactor/src/",
  "packages/mesh/src/",
];
const NOT_DATA_THREAD_FOLDERS = ["packages/mesh/src/convert/"];
/** Packages whose main-thread half stands behind the same index: built-in modules that it imports cost a data thread nothing. */
const SHARED_WITH_MAIN = ["packages/telemetry/src/", "packages/linux/src/rules/"];
/** Where the imports of a data thread are followed from. */
const DATA_THREAD_ENTRY = "apps/ztunnel/src/data/";
/** These work only with Node's own loop, to which a data thread never returns. */
const LOOP_MODULES =
  /^node:(timers|stream|http|https|http2|tls|dgram|dns|child_process|events|console|readline|async_hooks|fs\/promises)(\/|$)/;
const LOOP_WORDS: readonly (readonly [pattern: RegExp, what: string])[] = [
  [/\basync\b(?!\s*[:,.;)=])/g, "async functions"],
  [/\bawait\b/g, "await"],
  [/\bPromise\b/g, "promises"],
  [/\b(setTimeout|setInterval|setImmediate|queueMicrotask)\b|\bprocess\.nextTick\b/g, "Node's timers and queues"],
  [/\bconsole\s*\./g, "the console (a write goes through Node's streams)"],
  [/\bFinalizationRegistry\b/g, "finalizers"],
];

export function isTest(file: string): boolean {
  return (
    file.endsWith(".test.ts") || /^((packages|apps)\/[^/]+\/)?test\//.test(file) || file.startsWith("packages/testkit/")
  );
}

/** Violations that one file shows by itself. */
export function checkFile(file: string, source: string, workspace: Workspace): Violation[] {
  const found: Violation[] = [];
  const report = (line: number, text: string) => found.push({ file, line, text });
  const { code, imports } = scanSource(source);

  for (const { specifier, line } of imports) {
    if (specifier.startsWith(".")) {
      const target = folderOf(posix.join(posix.dirname(file), specifier));
      // Tests and the bench look into every part; images are made with the scanner that these rules use.
      const known = /^(test|bench)\//.test(file) || (file.startsWith("images/") && target === "scripts");
      if (target !== folderOf(file) && !known) {
        report(line, `${specifier} leaves ${folderOf(file)}: import the other part by its package name`);
      }
    } else if (specifier.startsWith("@tulle/")) {
      const problem = packageProblem(file, specifier, workspace);
      if (problem !== undefined) report(line, problem);
    } else if (specifier.startsWith("node:")) {
      if (specifier === "node:ffi" && !inNativePackage(file) && !isFixture(file)) {
        report(line, "node:ffi belongs to linux and tls");
      }
    } else if (!specifier.startsWith("/")) {
      const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
      const allowed =
        workspace.byFolder.get(folderOf(file))?.has(name) ||
        (workspace.development.has(name) && (isTest(file) || /^(scripts|bench|images)\//.test(file)));
      if (!allowed) report(line, `${name} is not among the dependencies of ${folderOf(file)}/package.json`);
    }
  }

  if (!inNativePackage(file)) {
    for (const match of code.matchAll(/\.pointer\b/g)) {
      report(lineAt(source, match.index), "a raw address (.pointer) never leaves linux and tls");
    }
  }
  if (isDataThreadCode(file)) {
    for (const [pattern, what] of LOOP_WORDS) {
      for (const match of code.matchAll(pattern)) {
        report(lineAt(source, match.index), `${what} do not work on a data thread`);
      }
    }
  }
  return found;
}

/**
 * Follows what data threads import at run time (types are gone by then) and reports npm packages and modules that need
 * Node's loop. `read` gives a file's source, or undefined when there is none.
 */
export function checkDataThreads(
  files: readonly string[],
  read: (file: string) => string | undefined,
  workspace: Workspace,
): Violation[] {
  const found: Violation[] = [];
  const seen = new Set<string>();
  const queue = files.filter((file) => file.startsWith(DATA_THREAD_ENTRY) && !isTest(file));
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    const source = seen.has(file) ? undefined : read(file);
    seen.add(file);
    if (source === undefined) continue;
    for (const { specifier, line } of scanRuntime(source).imports) {
      if (specifier.startsWith(".")) queue.push(posix.join(posix.dirname(file), specifier));
      else if (specifier.startsWith("@tulle/")) queue.push(workspace.entries.get(specifier) ?? specifier);
      else if (!specifier.startsWith("node:")) {
        found.push({ file, line, text: `${specifier}: data threads reach this import, and they load no npm package` });
      } else if (SHARED_WITH_MAIN.some((folder) => file.startsWith(folder))) {
        continue;
      } else if (LOOP_MODULES.test(specifier) || (specifier === "node:net" && !onlyIsIp(source, line))) {
        found.push({ file, line, text: `${specifier}: data threads reach this import, and it needs Node's loop` });
      }
    }
  }
  return found;
}

function packageProblem(file: string, specifier: string, workspace: Workspace): string | undefined {
  const name = specifier.split("/")[1] ?? "";
  if (!workspace.entries.has(specifier)) return `${specifier} is no entry that a package.json declares`;
  const [kind, own] = folderOf(file).split("/");
  if (isTest(file) && TEST_PACKAGES.includes(name)) return undefined;
  if (name === "testkit") return "only tests import testkit";
  const tier = tierOf(name);
  if (tier < 0) return `${specifier} is in no tier: give it one in scripts/import-rules.ts`;
  if (kind === "apps") {
    return FORBIDDEN_FOR_APP[own ?? ""]?.includes(name) ? `${own} does not import ${name}` : undefined;
  }
  if (kind !== "packages" || own === "testkit" || own === name) return undefined;
  return tier < tierOf(own ?? "") ? undefined : `${own} does not stand above ${name} (tiers: ARCHITECTURE.md)`;
}

function tierOf(name: string): number {
  return TIERS.findIndex((tier) => tier.includes(name));
}

/** `packages/x`, `apps/x`, or the first folder. */
function folderOf(file: string): string {
  const parts = file.split("/");
  return parts[0] === "packages" || parts[0] === "apps" ? parts.slice(0, 2).join("/") : (parts[0] ?? "");
}

function inNativePackage(file: string): boolean {
  return NATIVE_PACKAGES.some((name) => file.startsWith(`packages/${name}/`));
}

/** Programs that tests run as somebody else, who has nothing of this repository. */
function isFixture(file: string): boolean {
  return /^test\/(.*\/)?fixtures\//.test(file);
}

function isDataThreadCode(file: string): boolean {
  return (
    !isTest(file) &&
    DATA_THREAD_FOLDERS.some((folder) => file.startsWith(folder)) &&
    !NOT_DATA_THREAD_FOLDERS.some((folder) => file.startsWith(folder))
  );
}

/** node:net holds isIP, which is a plain function, beside the sockets. */
function onlyIsIp(source: string, line: number): boolean {
  return /^import \{\s*(isIP(v[46])?[\s,]*)+\} from/.test(source.split("\n")[line - 1] ?? "");
}
