import type { ServerResponse } from "node:http";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Profiler } from "./profiler.ts";

const PROFILE = "/debug/pprof/profile";
const HEAP = "/debug/pprof/heap";
const SAMPLING = "/debug/pprof/heap/profiling";

/** What they are for. */
export const PROFILE_PAGES: readonly (readonly [path: string, help: string])[] = [
  [PROFILE, "CPU profile for pprof: ?seconds=10&frequency=100"],
  [HEAP, "heap profile for pprof, of what was allocated while sampling is on"],
  [SAMPLING, "whether heap sampling is on; ?activate=true or false switches it"],
];

const PROFILE_SECONDS = { fallback: 10, min: 1, max: 300 };
const PROFILE_FREQUENCY = { fallback: 100, min: 1, max: 1000 };

/** Answers `/debug/pprof/…`, as `go tool pprof` asks for it. Resolves with false, and nothing answered, for another path. */
export async function respondProfiling(url: URL, response: ServerResponse, profiler: Profiler): Promise<boolean> {
  if (url.pathname === PROFILE) await cpuProfile(url.searchParams, response, profiler);
  else if (url.pathname === HEAP) await heapProfile(response, profiler);
  else if (url.pathname === SAMPLING) await heapSampling(url.searchParams, response, profiler);
  else return false;
  return true;
}

async function cpuProfile(query: URLSearchParams, response: ServerResponse, profiler: Profiler): Promise<void> {
  const seconds = numberOf(query, "seconds", PROFILE_SECONDS);
  const frequency = numberOf(query, "frequency", PROFILE_FREQUENCY);
  if (seconds === undefined || frequency === undefined) {
    respondText(response, 400, "seconds must be 1–300, frequency 1–1000\n");
    return;
  }
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const profile = await profiler.cpu(seconds, frequency, gone.signal);
  if (profile === undefined) respondText(response, 503, "a CPU profile is being taken already\n");
  else await respondProfile(response, profile);
}

async function heapProfile(response: ServerResponse, profiler: Profiler): Promise<void> {
  const profile = await profiler.stopHeap();
  if (profile === undefined) {
    respondText(response, 500, `heap sampling is off; switch it on with ${SAMPLING}?activate=true\n`);
    return;
  }
  // A profile can only be had by ending the sampling; it goes on with a new one.
  await profiler.startHeap();
  await respondProfile(response, profile);
}

async function heapSampling(query: URLSearchParams, response: ServerResponse, profiler: Profiler): Promise<void> {
  const activate = query.get("activate");
  if (activate !== null && activate !== "true" && activate !== "false") {
    respondText(response, 400, "activate must be true or false\n");
    return;
  }
  if (activate === "true") await profiler.startHeap();
  if (activate === "false") await profiler.stopHeap();
  respondText(response, 200, `heap profiling is ${profiler.heapActive ? "active" : "inactive"}\n`);
}

async function respondProfile(response: ServerResponse, profile: Uint8Array): Promise<void> {
  const bytes = await promisify(gzip)(profile);
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-disposition": 'attachment; filename="profile.pb.gz"',
    "content-length": bytes.length,
  });
  response.end(bytes);
}

function respondText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" });
  response.end(text);
}

/** undefined: not a whole number in the range. */
function numberOf(
  query: URLSearchParams,
  name: string,
  { fallback, min, max }: { readonly fallback: number; readonly min: number; readonly max: number },
): number | undefined {
  const text = query.get(name);
  if (text === null) return fallback;
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}
