import type { Log } from "@tulle/base";
import type { Profiler } from "@tulle/telemetry/profiling";
import type { Config } from "../config.ts";
import { type DebugSources, respondDebug } from "./debug.ts";
import type { DebugGuardOptions } from "./debug-guard.ts";
import { respond, startHttpServer } from "./http-server.ts";
import type { MetricSet } from "./metric-set.ts";

export interface HttpServersOptions {
  readonly config: Config;
  readonly metrics: MetricSet;
  readonly isReady: () => boolean;
  /** What readiness waits for. */
  readonly unsynced: () => readonly string[];
  readonly debug: { readonly sources: DebugSources; readonly guard: DebugGuardOptions; readonly profiler: Profiler };
  readonly log: Log;
}

export interface HttpServers {
  readonly ports: { readonly http: number; readonly monitoring: number };
  close(): Promise<void>;
}

const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Port 8080 (readiness, debug) and 15014 (metrics, version, debug): control-plane.md §9.2. */
export async function startHttpServers(options: HttpServersOptions): Promise<HttpServers> {
  const { config, metrics, isReady, unsynced, debug, log } = options;
  const { host, httpPort, monitoringPort } = config.listen;
  const http = await startHttpServer({
    name: "http",
    host,
    port: httpPort,
    log,
    handle: async (request, response) => {
      if (await respondDebug(request, response, debug)) return;
      if (pathOf(request.url) !== "/ready") respond(response, 404, "not found\n");
      else if (isReady()) respond(response, 200, "ready\n");
      else respond(response, 503, `not ready: waiting for ${unsynced().join(", ") || "the end"}\n`);
    },
  });
  const monitoring = await startHttpServer({
    name: "monitoring",
    host,
    port: monitoringPort,
    log,
    handle: async (request, response) => {
      if (await respondDebug(request, response, debug)) return;
      const path = pathOf(request.url);
      if (path === "/metrics") respond(response, 200, metrics.text(), METRICS_TYPE);
      else if (path === "/version") respond(response, 200, config.version);
      else respond(response, 404, "not found\n");
    },
  });
  return {
    ports: { http: http.port, monitoring: monitoring.port },
    close: async () => {
      await Promise.all([http.close(), monitoring.close()]);
    },
  };
}

function pathOf(url: string | undefined): string {
  return url?.split("?", 1)[0] ?? "";
}
