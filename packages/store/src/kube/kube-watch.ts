import type { IncomingMessage } from "node:http";
import { Backoff, type Clock, type Log, messageOf, type Random, sleep } from "@tulle/base";
import type { KubeObject, ResourceKind, Selection } from "../contract.ts";
import type { FollowedObjects } from "../followed-objects.ts";
import type { KubeApi } from "./kube-api.ts";
import { errorOfStatus, isExpired, KubeApiError, type KubeStatus } from "./kube-error.ts";
import { listAll, tidy } from "./kube-list.ts";
import { collectionPath, describe, selectionQuery } from "./kube-path.ts";

export interface KubeWatchOptions<T extends KubeObject> {
  readonly api: KubeApi;
  readonly kind: ResourceKind<T>;
  readonly selection: Selection | undefined;
  readonly objects: FollowedObjects<T>;
  readonly pageSize: number;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly timings: WatchTimings;
  readonly signal: AbortSignal;
}

export interface WatchTimings {
  readonly silenceMs: number;
  readonly missingKindMs: number;
}

export const WATCH_TIMINGS: WatchTimings = {
  /** Bookmarks come about once a minute: after two missed ones the watch is opened anew, from where it was. */
  silenceMs: 150_000,
  /** How soon a CRD that has been installed is noticed. */
  missingKindMs: 3_000,
};

/** The API server ends a watch after this; spread, so that not all watches of all nodes end together. */
const WATCH_SECONDS = { least: 300, spread: 300 };
/** So many "not found" in a row before objects that were there count as gone: policy must not vanish with a starting API server. */
const NOT_FOUND_TO_BELIEVE = 3;
/** One event of a watch holds one object: etcd takes 1.5 MiB, managed fields and escapes included. */
const MAX_EVENT_BYTES = 16 * 1024 * 1024;
/** A watch that lasted this long worked: the next failure is a new one. */
const STEADY_MS = 1_000;
/** Spread widely, for all watches of all nodes lose the same API server together. */
const RETRY = { initialMs: 100, maxMs: 5_000, jitter: 0.5 };

interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: KubeObject | KubeStatus;
}

/**
 * Keeps `objects` equal to what the API server has, until the signal aborts: lists, watches from there, resumes a watch that
 * ended, lists again when the server has forgotten where we were (410).
 */
export async function followKind<T extends KubeObject>(options: KubeWatchOptions<T>): Promise<void> {
  const { api, kind, selection, objects, clock, log, random, signal } = options;
  const what = describe("list", kind, selection ?? {});
  const backoff = new Backoff({ ...RETRY, random });
  let version: string | undefined;
  let notFound = 0;
  let expired = 0;
  while (!signal.aborted) {
    let started = Number.POSITIVE_INFINITY;
    try {
      if (version === undefined) {
        const list = await listAll(api, kind, selection, { pageSize: options.pageSize, signal });
        objects.heard(clock.wall());
        objects.setProblem(undefined);
        objects.replace(list.items);
        version = list.resourceVersion;
        notFound = 0;
      }
      started = clock.now();
      version = await readWatch(options, version);
      // A server that ends watches at once must not be asked in a busy loop.
      if (clock.now() - started < STEADY_MS) await sleep(backoff.next(), signal);
      else backoff.reset();
    } catch (error) {
      if (signal.aborted) return;
      if (clock.now() - started > STEADY_MS) {
        backoff.reset();
        expired = 0;
      }
      if (error instanceof WatchEnded) version = error.version;
      const cause = error instanceof WatchEnded ? error.cause : error;
      if (isExpired(cause)) {
        log.info("the API server has forgotten where the watch was: listing again", { watch: what });
        version = undefined;
        expired += 1;
        // However long the way here was: the server answers now, and what it says is what we lack.
        if (expired === 1) continue;
      } else if (cause instanceof KubeApiError && cause.status === 404) {
        version = undefined;
        notFound += 1;
        if (!objects.state.synced || objects.size === 0 || notFound >= NOT_FOUND_TO_BELIEVE) {
          objects.heard(clock.wall());
          objects.replace([]);
          objects.setProblem(undefined);
        } else {
          objects.setProblem(messageOf(cause));
        }
        await sleep(options.timings.missingKindMs * (0.75 + 0.5 * random()), signal);
        continue;
      } else {
        const problem = messageOf(cause);
        if (objects.state.problem === undefined) log.warn("cannot follow a kind", { watch: what, problem });
        objects.setProblem(problem);
      }
      const asked = cause instanceof KubeApiError ? (cause.retryAfterMs ?? 0) : 0;
      await sleep(Math.max(backoff.next(), Math.min(asked, RETRY.maxMs)), signal);
    }
  }
}

/** A watch broke off; `version` is where it goes on. */
class WatchEnded extends Error {
  readonly version: string;
  constructor(version: string, cause: unknown) {
    super(messageOf(cause), { cause });
    this.version = version;
  }
}

/** Follows from `version` until the server ends the watch; gives the version to go on from. */
async function readWatch<T extends KubeObject>(options: KubeWatchOptions<T>, version: string): Promise<string> {
  const { api, kind, selection, objects, clock, random } = options;
  const what = describe("watch", kind, selection ?? {});
  using life = abortWith(options.signal);
  let silence: NodeJS.Timeout | undefined;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => life.controller.abort(), options.timings.silenceMs);
  };
  let last = version;
  try {
    const stream = await api.stream(collectionPath(kind, selection?.namespace), {
      what,
      signal: life.controller.signal,
      query: {
        ...selectionQuery(selection),
        watch: "1",
        allowWatchBookmarks: "true",
        resourceVersion: version,
        timeoutSeconds: String(Math.round(WATCH_SECONDS.least + WATCH_SECONDS.spread * random())),
      },
    });
    listen();
    objects.heard(clock.wall());
    objects.setProblem(undefined);
    await readLines(stream, (line) => {
      listen();
      objects.heard(clock.wall());
      const event = JSON.parse(line) as WatchEvent;
      if (event.type === "ERROR") throw errorOfStatus(what, event.object);
      const object = event.object as T;
      last = object.metadata.resourceVersion ?? last;
      if (event.type === "BOOKMARK") return;
      if (event.type === "DELETED") objects.remove(object.metadata, object);
      else objects.put(tidy(kind, object));
    });
    return last;
  } catch (error) {
    if (life.controller.signal.aborted && !options.signal.aborted) return last;
    throw new WatchEnded(last, error);
  } finally {
    clearTimeout(silence);
  }
}

/** Calls `take` with each line; resolves at the end of the stream, rejects with what `take` throws. */
function readLines(stream: IncomingMessage, take: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let parts: Buffer[] = [];
    let length = 0;
    const fail = (error: unknown) => {
      stream.destroy();
      reject(error instanceof Error ? error : new Error(String(error)));
    };
    stream.on("data", (chunk: Buffer) => {
      if (stream.destroyed) return;
      try {
        let start = 0;
        for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
          parts.push(chunk.subarray(start, end));
          const line = (parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)).toString(
            "utf8",
          );
          parts = [];
          length = 0;
          start = end + 1;
          if (line !== "") take(line);
        }
        if (start === chunk.length) return;
        parts.push(chunk.subarray(start));
        length += chunk.length - start;
        if (length > MAX_EVENT_BYTES) throw new Error(`an event of the watch exceeds ${MAX_EVENT_BYTES} bytes`);
      } catch (error) {
        fail(error);
      }
    });
    stream.on("end", resolve);
    stream.on("error", fail);
    stream.on("close", () => reject(new Error("the connection of the watch broke")));
  });
}

/** A controller that aborts with `signal` and can be aborted alone. */
function abortWith(signal: AbortSignal): Disposable & { readonly controller: AbortController } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  return { controller, [Symbol.dispose]: () => signal.removeEventListener("abort", abort) };
}
