import { join } from "node:path";
import { type Clock, type Log, messageOf, sleep, systemClock } from "@tulle/base";
import { openConfFolder } from "./conf-folder.ts";
import type { InstallerConfig } from "./config.ts";
import { removeKubeconfig, writeKubeconfig } from "./kubeconfig.ts";
import type { JsonObject } from "./network-list.ts";
import { openPluginFiles, type PluginFiles } from "./plugin-files.ts";
import { pluginEntry } from "./plugin-entry.ts";
import { watchFolders } from "./watch-folders.ts";

/** Values of the label `result` of `istio_cni_installs_total`. */
export const INSTALL_RESULTS = [
  "SUCCESS",
  "COPY_BINARIES_FAILURE",
  "CREATE_KUBECONFIG_FAILURE",
  "CREATE_CNI_CONFIG_FAILURE",
] as const;
export type InstallResult = (typeof INSTALL_RESULTS)[number];

export interface InstallerOptions {
  readonly config: InstallerConfig;
  readonly log: Log;
  readonly clock?: Clock;
  /** For tests. */
  readonly plugin?: PluginFiles;
}

export interface Installer {
  /** All files are in place; `istio_cni_install_ready`. */
  readonly ready: boolean;
  /** What is missing. Undefined when ready. */
  readonly problem: string | undefined;
  /** `istio_cni_installs_total` by result: passes that changed something or failed. */
  readonly counts: Readonly<Record<InstallResult, number>>;
  /** Resolves when ready for the first time, or when the signal aborts. */
  whenReady(signal?: AbortSignal): Promise<void>;
  /**
   * Ends the watching. `keep`: another agent follows, so plugin and configuration stay, and new pods wait for it.
   * Otherwise everything is taken away, and the primary configuration becomes what it was. Never rejects; once.
   */
  stop(options: { readonly keep: boolean }): Promise<void>;
}

/** Between two passes at least; a repair therefore comes within a second. */
const PASS_INTERVAL_MS = 1000;
/** Writers replace several files at once: look when they are through. */
const SETTLE_MS = 20;
/** Watches miss nothing that is known of; this finds the rest. */
const RESCAN_MS = 10_000;
/** Where a folder cannot be watched, or is not there yet. */
const BLIND_RESCAN_MS = 1000;
/** Two repairs so close together mean that somebody undoes them. */
const FIGHT_MS = 5000;
/** Longer than the plugin takes to load. */
const FORMER_FILES_MS = 30_000;

/** Installs the plugin and keeps it installed until stopped. Start it when the agent's socket answers, never before. */
export function startInstaller({
  config,
  log,
  clock = systemClock,
  plugin = openPluginFiles(config),
}: InstallerOptions): Installer {
  const confFolder = openConfFolder(config.confDir, config.confName);
  const entry: JsonObject = pluginEntry(config);
  const counts = Object.fromEntries(INSTALL_RESULTS.map((result) => [result, 0])) as Record<InstallResult, number>;
  const stopping = new AbortController();
  const firstReady = Promise.withResolvers<void>();
  let problem: string | undefined = "not installed yet";
  let wake: () => void = () => undefined;
  let told = "";
  let lastRepair = Number.NEGATIVE_INFINITY;
  let formerGone = false;
  let stopped: Promise<void> | undefined;
  const started = clock.now();

  const watch = watchFolders([config.binDir, config.confDir, config.runDir, config.serviceAccountDir], {
    log,
    onChange: () => wake(),
  });

  /** Says a thing once, not at every pass. */
  const tell = (level: "info" | "warn", message: string) => {
    if (message !== told) log[level](message);
    told = message;
  };

  async function pass(): Promise<void> {
    let step: InstallResult = "COPY_BINARIES_FAILURE";
    const done: string[] = [];
    try {
      if (await plugin.install()) done.push("plugin");
      step = "CREATE_KUBECONFIG_FAILURE";
      // A rotated token is no repair.
      const rotated = await writeKubeconfig(config);
      step = "CREATE_CNI_CONFIG_FAILURE";
      const conf = await confFolder.insert(entry);
      if (conf.state === "waiting") {
        problem = `no primary CNI configuration in ${config.confDir} yet`;
        return tell("info", `waiting: ${problem}`);
      }
      if (conf.state === "changed") done.push(conf.file);
      if (done.length > 0) countRepair(done.join(" and "));
      else if (rotated && problem !== undefined) counts.SUCCESS++;
      if (problem !== undefined) tell("info", `the CNI plugin is installed, in ${conf.file}`);
      problem = undefined;
      firstReady.resolve();
    } catch (error) {
      counts[step]++;
      problem = messageOf(error);
      tell("warn", `the CNI plugin is not installed (${step}): ${problem}`);
    }
  }

  function countRepair(what: string): void {
    counts.SUCCESS++;
    const now = clock.now();
    if (now - lastRepair < FIGHT_MS) {
      log.warn(
        `put ${what} in place again: something on this node undoes it; another CNI plugin that wants to be alone?`,
      );
    } else if (problem === undefined) log.info(`put ${what} in place again`);
    lastRepair = now;
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const changed = new AbortController();
      wake = () => changed.abort();
      const all = watch.refresh();
      const begun = clock.now();
      await pass();
      if (!formerGone && problem === undefined && begun - started > FORMER_FILES_MS) {
        formerGone = true;
        await plugin
          .removeFormer()
          .catch((error: unknown) => log.warn(`former plugin files stay: ${messageOf(error)}`));
      }
      const calm = all && problem === undefined;
      await sleep(calm ? RESCAN_MS : BLIND_RESCAN_MS, AbortSignal.any([changed.signal, stopping.signal]));
      await sleep(Math.max(SETTLE_MS, PASS_INTERVAL_MS - (clock.now() - begun)), stopping.signal);
    }
  }
  const running = run();

  async function stop(keep: boolean): Promise<void> {
    stopping.abort();
    watch.close();
    await running;
    if (keep) {
      log.info("the CNI plugin stays: pods of the mesh wait for the next node agent");
      return;
    }
    problem = "removed";
    // The entry first: a runtime that still has it would look for a plugin that is gone.
    const steps: readonly (readonly [string, () => Promise<void>])[] = [
      [`the entry in ${config.confDir}`, () => confFolder.remove()],
      ["the plugin", () => plugin.remove()],
      [join(config.runDir, "istio-cni-kubeconfig"), () => removeKubeconfig(config)],
    ];
    for (const [what, remove] of steps) {
      await remove().catch((error: unknown) =>
        log.error(`${what} could not be removed; remove it by hand: ${messageOf(error)}`),
      );
    }
    log.info("the CNI plugin is removed");
  }

  return {
    get ready() {
      return problem === undefined;
    },
    get problem() {
      return problem;
    },
    counts,
    whenReady(signal) {
      const aborted = new Promise<void>((resolve) => {
        if (signal?.aborted) resolve();
        signal?.addEventListener("abort", () => resolve(), { once: true });
      });
      return Promise.race([firstReady.promise, aborted]);
    },
    stop({ keep }) {
      stopped ??= stop(keep);
      return stopped;
    },
  };
}
