import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { artifactFolder, COMPONENTS, type Component, cacheFolder, sourceFolder } from "./artifacts.ts";
import { imageTar } from "./image-tar.ts";

/** What Kubernetes' modules ask for. */
const MINIMUM_GO = [1, 26] as const;
/** A build that takes this long hangs: a cold one takes six minutes on two cores. */
const BUILD_LIMIT_MS = 30 * 60_000;
/** Hundreds of downloads: one that fails must not cost the build. What came is kept by Go. */
const FETCH_ATTEMPTS = 4;
/** Of each component, so that a branch switched back and forth is not built each time; a running cluster uses them too. */
const KEPT_VERSIONS = 3;
/** Where Go's own archive is unpacked, which is not in every PATH. */
const GO_FOLDER = "/usr/local/go/bin";
/** Go's names for the machines that Node names otherwise. */
const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Builds what is missing in the cache, and says on standard error what it does. Throws with what to do about it. */
export async function build(components = COMPONENTS, cache = cacheFolder()): Promise<void> {
  const missing = components.filter((component) => missingFiles(component, cache).length > 0);
  if (missing.length === 0) return;
  await checkGo();
  for (const component of missing) {
    const began = performance.now();
    say(`building ${component.name} into ${artifactFolder(component, cache)}`);
    await buildComponent(component, cache);
    say(`built ${component.name} in ${Math.round((performance.now() - began) / 1000)} s`);
    removeOld(component, cache);
  }
}

function missingFiles(component: Component, cache: string): string[] {
  const folder = artifactFolder(component, cache);
  return component.files.filter((file) => !existsSync(join(folder, file)));
}

async function buildComponent(component: Component, cache: string): Promise<void> {
  const architecture = GO_ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`the test cluster knows no architecture ${process.arch}`);
  const folder = artifactFolder(component, cache);
  // Renamed at the end, so that a build that breaks off, or two at once, never leave half a folder.
  const work = `${folder}.${process.pid}`;
  mkdirSync(work, { recursive: true });
  try {
    const programs = component.programs ?? { [component.name]: "." };
    await fetchModules(component, Object.values(programs));
    for (const [program, source] of Object.entries(programs)) {
      const flags = ["-trimpath", "-ldflags", component.linkerFlags, "-o", join(work, program)];
      await go(["build", ...flags, source], sourceFolder(component));
    }
    if (component.image !== undefined) {
      const [path = ""] = component.image.entrypoint;
      const files = [{ path, content: readFileSync(join(work, basename(path))) }];
      writeFileSync(join(work, `${component.name}.tar`), imageTar({ ...component.image, files, architecture }));
    }
    for (const file of readdirSync(work)) {
      if (!component.files.includes(file)) rmSync(join(work, file));
    }
    rmSync(folder, { recursive: true, force: true });
    renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Lists the packages, which fetches just the modules that hold them. They must be those of go.sum: Go refuses any other. */
async function fetchModules(component: Component, packages: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await go(["list", "-deps", ...packages], sourceFolder(component));
      return;
    } catch (error) {
      if (attempt === FETCH_ATTEMPTS) throw error;
      say(`not all modules of ${component.name} came: trying again`);
    }
  }
}

async function checkGo(): Promise<void> {
  const wanted = MINIMUM_GO.join(".");
  const advice = `Go ${wanted} or newer builds the test cluster's parts: install it (https://go.dev/dl) and put it on PATH`;
  // Asked beside a go.mod: a Go from 1.21 on fetches the toolchain that it asks for by itself.
  const version = await go(["env", "GOVERSION"], sourceFolder(COMPONENTS[0] as Component)).catch(() => {
    throw new Error(`no go: ${advice}`);
  });
  const [, major = "0", minor = "0"] = /^go(\d+)\.(\d+)/.exec(version) ?? [];
  if (Number(major) < MINIMUM_GO[0] || (Number(major) === MINIMUM_GO[0] && Number(minor) < MINIMUM_GO[1])) {
    throw new Error(`${version.trim()} is too old: ${advice}`);
  }
}

/** Runs go; what it says goes to standard error. Returns standard output. */
function go(args: readonly string[], directory: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("go", args, {
      cwd: directory,
      // One static file that runs in an image without a C library.
      env: {
        ...process.env,
        PATH: `${process.env.PATH}:${GO_FOLDER}`,
        CGO_ENABLED: "0",
        GOFLAGS: "-buildvcs=false",
        GOWORK: "off",
      },
      stdio: ["ignore", "pipe", "inherit"],
      timeout: BUILD_LIMIT_MS,
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) resolve(output);
      else if (signal === "SIGTERM")
        reject(new Error(`go ${args[0]} took ${BUILD_LIMIT_MS / 60_000} min; Go keeps what it has built: try again`));
      else reject(new Error(`go ${args[0]} in ${directory} failed (${signal ?? code}): see above`));
    });
  });
}

function removeOld(component: Component, cache: string): void {
  const parent = dirname(artifactFolder(component, cache));
  const versions = readdirSync(parent)
    .map((name) => join(parent, name))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  for (const old of versions.slice(KEPT_VERSIONS)) rmSync(old, { recursive: true, force: true });
}

function say(text: string): void {
  process.stderr.write(`cluster: ${text}\n`);
}

if (import.meta.main) {
  try {
    await build();
  } catch (error) {
    say((error as Error).message);
    process.exitCode = 1;
  }
}
