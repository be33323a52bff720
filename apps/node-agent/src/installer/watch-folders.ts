import { type FSWatcher, watch } from "node:fs";
import type { Log } from "@tulle/base";

/** Tells of changes in folders, also in those that come, go and come again. */
export interface FolderWatch {
  /** Watches anew what is there by now. Cheap when nothing has changed. True: all folders are watched. */
  refresh(): boolean;
  close(): void;
}

export function watchFolders(
  folders: readonly string[],
  { onChange, log }: { readonly onChange: (folder: string) => void; readonly log: Log },
): FolderWatch {
  const watchers = new Map<string, FSWatcher>();
  const failed = new Set<string>();

  const forget = (folder: string) => {
    watchers.get(folder)?.close();
    watchers.delete(folder);
  };
  const open = (folder: string) => {
    try {
      const watcher = watch(folder, { persistent: false }, (event, name) => {
        // The folder itself was removed or replaced: what replaces it is watched at the next refresh.
        if (event === "rename" && (name === null || folder.endsWith(`/${name}`))) forget(folder);
        onChange(folder);
      });
      watcher.on("error", () => forget(folder));
      watchers.set(folder, watcher);
      failed.delete(folder);
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && !failed.has(folder)) {
        log.warn(`cannot watch ${folder} (${code}): changes are found by looking every second`);
      }
      failed.add(folder);
    }
  };

  return {
    refresh() {
      for (const folder of folders) if (!watchers.has(folder)) open(folder);
      return watchers.size === folders.length;
    },
    close() {
      for (const folder of [...watchers.keys()]) forget(folder);
    },
  };
}
