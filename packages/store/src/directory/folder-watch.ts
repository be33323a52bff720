import { type FSWatcher, statSync, watch } from "node:fs";
import { type Log, messageOf } from "@tulle/base";

/** The safety net behind the kernel's notifications, which can overflow. */
const RESCAN_MS = 2_000;
/** Where the kernel gives no notifications (its limit is used up), looking is all there is. */
const RESCAN_WITHOUT_NOTIFICATIONS_MS = 100;

/**
 * Calls `changed` with the name of a file in a folder that was made, replaced, changed or removed; without a name when
 * anything may have changed: now and then, and after the folder itself was replaced.
 */
export class FolderWatch {
  readonly #path: string;
  readonly #changed: (file: string | undefined) => void;
  readonly #log: Log;
  #watcher: FSWatcher | undefined;
  #inode: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #warned = false;
  #closed = false;

  constructor(path: string, changed: (file: string | undefined) => void, log: Log) {
    this.#path = path;
    this.#changed = changed;
    this.#log = log;
    this.#follow();
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
  }

  #schedule(): void {
    if (this.#closed) return;
    const wait = this.#watcher === undefined ? RESCAN_WITHOUT_NOTIFICATIONS_MS : RESCAN_MS;
    this.#timer = setTimeout(() => {
      this.#follow();
      this.#changed(undefined);
      this.#schedule();
    }, wait);
  }

  /** Notifications belong to the folder's inode: another one at the path must be watched anew. */
  #follow(): void {
    const inode = statSync(this.#path, { throwIfNoEntry: false })?.ino;
    if (this.#watcher !== undefined && inode === this.#inode) return;
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#inode = inode;
    if (inode === undefined) return;
    try {
      const watcher = watch(this.#path, (_event, file) => {
        if (!this.#closed) this.#changed(file ?? undefined);
      });
      watcher.on("error", (error) => this.#lost(watcher, error));
      this.#watcher = watcher;
    } catch (error) {
      this.#lost(undefined, error);
    }
  }

  #lost(watcher: FSWatcher | undefined, error: unknown): void {
    watcher?.close();
    if (this.#watcher === watcher) this.#watcher = undefined;
    if (this.#warned) return;
    this.#warned = true;
    this.#log.warn(
      "no notifications from a folder: looking every 100 ms instead (is fs.inotify.max_user_watches too low?)",
      {
        folder: this.#path,
        error: messageOf(error),
      },
    );
  }
}
