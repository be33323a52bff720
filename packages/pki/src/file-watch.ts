import { type FSWatcher, watch } from "node:fs";
import { dirname } from "node:path";
import { messageOf, silentLog, type Log } from "@tulle/base";

export interface FileWatchOptions {
  readonly paths: readonly string[];
  /** Something happened in a directory of one of the paths, or it is time to look anyway. Compare before you act. */
  readonly onChange: () => void;
  /** How long it must be quiet before `onChange`. Default 2 s. */
  readonly debounceMs?: number;
  /** How often to look without an event. Default 30 s. */
  readonly pollMs?: number;
  readonly log?: Log;
}

export interface FileWatch {
  close(): void;
}

/** A mounted Secret or ConfigMap changes by a few events in a row. */
const DEBOUNCE_MS = 2_000;
/** For file systems without events, and directories that appear later. */
const POLL_MS = 30_000;

/**
 * Watches the directories of files, because a mounted volume is changed by swapping a symbolic link beside them. Events
 * are hints: looking regularly is what makes it certain.
 */
export function watchFiles(options: FileWatchOptions): FileWatch {
  const { onChange, debounceMs = DEBOUNCE_MS, pollMs = POLL_MS, log = silentLog } = options;
  const watchers = new Map<string, FSWatcher>();
  const directories = [...new Set(options.paths.map((path) => dirname(path)))];
  let quiet: NodeJS.Timeout | undefined;

  const changed = () => {
    clearTimeout(quiet);
    quiet = setTimeout(onChange, debounceMs);
  };
  const start = (directory: string) => {
    if (watchers.has(directory)) return;
    try {
      const watcher = watch(directory, changed);
      watchers.set(directory, watcher);
      watcher.on("error", (error) => {
        log.debug("a directory cannot be watched any more", { directory, error: messageOf(error) });
        watcher.close();
        watchers.delete(directory);
      });
    } catch (error) {
      log.debug("a directory cannot be watched", { directory, error: messageOf(error) });
    }
  };
  const startAll = () => directories.forEach(start);
  startAll();
  const poll = setInterval(() => {
    startAll();
    onChange();
  }, pollMs);
  return {
    close: () => {
      clearInterval(poll);
      clearTimeout(quiet);
      for (const watcher of watchers.values()) watcher.close();
      watchers.clear();
    },
  };
}
