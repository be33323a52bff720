import { execFile } from "node:child_process";
import { copyFile, mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { isNotFound, modeOf, readIfThere, writeAtomic } from "./atomic-file.ts";
import type { InstallerConfig } from "./config.ts";

/**
 * The plugin on the host: a script `istio-cni` in the runtime's folder of plugins, whose first line starts Node with the
 * loader and the libraries that lie in a folder beside it. A script needs nothing of the host but the kernel, which reads
 * that line; the folder carries the id of its content, so an upgrade never changes a file that runs.
 */
export interface PluginFiles {
  /** Brings the files in place. True: something was missing or different. */
  install(): Promise<boolean>;
  /** Folders of former versions; a plugin that just started may still be loading from them, so not at once. */
  removeFormer(): Promise<void>;
  remove(): Promise<void>;
}

/** `runtime.json` of the image (images/cni-plugin.ts). */
interface Runtime {
  /** Stands for the content of all the files. */
  readonly id: string;
  readonly node: string;
  readonly loader: string;
  readonly libraries: readonly string[];
}

export const PLUGIN_NAME = "istio-cni";
/** Hidden, so that nobody takes it for a plugin. */
const FOLDER_NAME = ".istio-cni";
const EXECUTABLE = 0o755;
/** What the kernel reads of a script's first line (BINPRM_BUF_SIZE, less its end). */
const MAX_FIRST_LINE = 255;
/** The plugin answers VERSION in 50 ms; a node that is starting up is slow. */
const TRIAL_TIMEOUT_MS = 20_000;

export function openPluginFiles(config: Pick<InstallerConfig, "binDir" | "hostBinDir" | "pluginFolder">): PluginFiles {
  const { binDir, hostBinDir, pluginFolder } = config;
  const folder = join(binDir, FOLDER_NAME);
  const script = join(binDir, PLUGIN_NAME);
  /** Which files this process has seen to be complete, by their size and times. */
  let seen = "";

  return {
    async install() {
      const runtime = JSON.parse(await readFile(join(pluginFolder, "runtime.json"), "utf8")) as Runtime;
      const own = join(folder, runtime.id);
      const text = await scriptOf(pluginFolder, join(hostBinDir, FOLDER_NAME, runtime.id));
      const state = await stateOf(own, runtime);
      const whole = state !== undefined && (seen === "" ? await works(own, script) : state === seen);
      if (!whole) await replaceRuntime(folder, runtime);
      seen = (await stateOf(own, runtime)) ?? "";
      const there = await readIfThere(() => readFile(script, "utf8"));
      const sameScript = there === text && (await modeOf(script)) === EXECUTABLE;
      if (!sameScript) await writeAtomic(script, text, EXECUTABLE);
      const changed = !whole || !sameScript;
      if (changed) await tryOut(own, script);
      return changed;
    },

    async removeFormer() {
      const { id } = JSON.parse(await readFile(join(pluginFolder, "runtime.json"), "utf8")) as Runtime;
      for (const name of await readdir(folder)) {
        if (name !== id) await rm(join(folder, name), { recursive: true, force: true });
      }
    },

    async remove() {
      await rm(script, { force: true });
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function scriptOf(pluginFolder: string, runtimeOnHost: string): Promise<string> {
  const firstLine = `#!${join(runtimeOnHost, "loader")} ${join(runtimeOnHost, "node")}`;
  // Blanks would end the loader's path; a line that is too long is cut or refused.
  if (/\s/.test(runtimeOnHost) || Buffer.byteLength(firstLine) > MAX_FIRST_LINE) {
    throw new Error(
      `the host's plugin folder cannot be used from a script: ${runtimeOnHost} is too long or holds blanks`,
    );
  }
  return `${firstLine}\n${await readFile(join(pluginFolder, `${PLUGIN_NAME}.js`), "utf8")}`;
}

async function replaceRuntime(folder: string, runtime: Runtime): Promise<void> {
  const fresh = join(folder, `.new-${process.pid}`);
  const own = join(folder, runtime.id);
  try {
    await rm(fresh, { recursive: true, force: true });
    await mkdir(join(fresh, "lib"), { recursive: true });
    for (const [source, place] of filesOf(runtime)) await copyFile(source, join(fresh, place));
    // A damaged folder makes room; for that instant the plugin fails, and kubelet tries again.
    await rm(own, { recursive: true, force: true });
    await rename(fresh, own);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw error;
  }
}

/** Undefined: a file is missing, or has not the size that the image's has. */
async function stateOf(own: string, runtime: Runtime): Promise<string | undefined> {
  const parts: string[] = [];
  for (const [source, place] of filesOf(runtime)) {
    try {
      const [wanted, there] = await Promise.all([stat(source), stat(join(own, place))]);
      if (wanted.size !== there.size || (there.mode & 0o111) === 0) return undefined;
      parts.push(`${place} ${there.ino} ${there.mtimeMs} ${there.ctimeMs}`);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
  return parts.join("\n");
}

function filesOf({ node, loader, libraries }: Runtime): readonly (readonly [source: string, place: string])[] {
  return [[node, "node"], [loader, "loader"], ...libraries.map((file) => [file, join("lib", basename(file))] as const)];
}

/** A former agent's files may have the right size and no content, after a power cut. */
async function works(own: string, script: string): Promise<boolean> {
  try {
    await tryOut(own, script);
    return true;
  } catch {
    // Whatever it is, new files mend it or say why not.
    return false;
  }
}

/** Runs it as the host will, but for the first line, which holds the host's paths. */
async function tryOut(own: string, script: string): Promise<void> {
  const call = promisify(execFile)(join(own, "loader"), [join(own, "node"), script], {
    env: { CNI_COMMAND: "VERSION" },
    timeout: TRIAL_TIMEOUT_MS,
  });
  call.child.stdin?.end('{"cniVersion":"1.0.0"}');
  const { stdout } = await call;
  if (!stdout.includes("supportedVersions"))
    throw new Error(`the installed plugin does not work: it answered ${stdout}`);
}
