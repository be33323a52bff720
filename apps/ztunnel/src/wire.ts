import { availableParallelism } from "node:os";
import { formatCidr, type Log, messageOf } from "@tulle/base";
import { descriptorLimit, raiseDescriptorLimit } from "@tulle/linux";
import { dumpState, explain, type MeshChange, MeshState } from "@tulle/mesh";
import { TelemetryHub } from "@tulle/telemetry";
import { Profiler } from "@tulle/telemetry/profiling";
import { startAdminServer } from "./admin/server.ts";
import { checkCapabilities } from "./capability-check.ts";
import type { Config } from "./config.ts";
import { dumpConfig, printConfig } from "./config-dump.ts";
import { createPodCounters } from "./data/limits.ts";
import { dataSettings } from "./data-settings.ts";
import { DataThreads } from "./data-threads.ts";
import type { HttpServer } from "./http-server.ts";
import { IdentityProvisioner } from "./identity-provisioner.ts";
import { LocalSource } from "./local-source.ts";
import { startMetricsServer } from "./metrics-server.ts";
import { type Proxies, startProxies } from "./proxies.ts";
import { Readiness, startReadinessServer, ThreadWatch } from "./readiness.ts";
import { createSecrets } from "./secrets.ts";
import { printVersion, versionInfo } from "./version.ts";
import { startXdsSource } from "./xds-source.ts";

/** A running ztunnel. */
export interface Ztunnel {
  /** Ends gracefully: no new connections, existing ones have until the deadline. Resolves when everything is closed. */
  drain(): Promise<void>;
  /** Resolves with the exit code when it has ended, of itself or because it was told to. */
  readonly ended: Promise<number>;
}

/**
 * The one place where the parts of ztunnel meet. The order matters: the servers that tell how it stands come first, the
 * data threads next, then what feeds them; proxies take connections only when the mesh is known (spec: l4-ztunnel §0).
 */
export async function startZtunnel(config: Config): Promise<Ztunnel> {
  const hub = new TelemetryHub({ format: config.logFormat, filter: config.logFilter });
  const { log } = hub;
  // Whatever ends this process without its ordinary end: what the log has so far is written first.
  process.on("exit", () => hub.closeSync());
  const version = versionInfo(config.istioVersion);
  const shownConfig = dumpConfig(config, process.argv.slice(2).join(" "));
  logStart(log, config, printVersion(version), printConfig(shownConfig));
  hub.metrics.build("ztunnel", config.istioVersion);
  if (config.mode === "shared") checkCapabilities();

  const exit = Promise.withResolvers<number>();
  const fatal = (error: unknown) => {
    log.error("cannot go on", { error: messageOf(error) });
    exit.resolve(1);
  };
  const readiness = new Readiness();
  const stateManagerReady = readiness.task("state manager");
  const proxyReady = readiness.task("proxy");
  const dnsReady = config.dns === undefined ? undefined : readiness.task("dns proxy");
  const watch = new ThreadWatch(() => hub.turns());
  readiness.check(() => watch.stuck());

  const state = new MeshState();
  const secrets = createSecrets(config, log.scope("identity"));
  const threads = await DataThreads.start({
    threads: config.threads,
    settings: dataSettings(config),
    podCounters: createPodCounters(),
    telemetry: () => hub.addThread(),
    log,
    onNeedIdentity: (uri) => void provisioner.need(uri),
    onNeedAddress: (name) => {
      // When the control plane is away, whoever waits for the address is refused after its own deadline.
      xds.demand(name).then(
        () => threads.answerAddress(name),
        (error: unknown) => log.warn("address cannot be asked for", { name, error: messageOf(error) }),
      );
    },
    onFatal: fatal,
  });
  const prefetch = config.mode === "shared" ? { state, nodeName: config.nodeName } : undefined;
  const provisioner = new IdentityProvisioner({ store: secrets, threads, log, prefetch });
  const apply = (changes: readonly MeshChange[]) => {
    // The threads first: what cannot be encoded throws before anything has changed.
    threads.apply(changes);
    for (const change of changes) state.apply(change);
  };

  const local =
    config.localXds &&
    (await LocalSource.start({ source: config.localXds, onChanges: apply, log: log.scope("state") }));
  const xds = startXdsSource({ config, state, apply, metrics: hub.metrics, log: log.scope("xds") });
  let proxies: Proxies | undefined;
  const servers: HttpServer[] = [];
  let draining: Promise<void> | undefined;
  const drain = () => {
    draining ??= shutDown().then(
      () => exit.resolve(0),
      (error: unknown) => fatal(error),
    );
    return draining;
  };
  const shutDown = async () => {
    log.info("shutting down", { deadline: `${config.terminationDeadlineMs}ms` });
    proxies?.close();
    await threads.drain(config.terminationDeadlineMs);
  };
  const ended = exit.promise.then(async (code) => {
    proxies?.close();
    local?.close();
    xds.close();
    provisioner.close();
    secrets.close();
    await Promise.allSettled([...servers.map((server) => server.close()), threads.close()]);
    await hub.close();
    return code;
  });

  const localhost = config.ipv6Loopback ? ["127.0.0.1", "::1"] : ["127.0.0.1"];
  const wildcard = config.ipv6 ? "::" : "0.0.0.0";
  try {
    servers.push(
      await startAdminServer({
        addresses: localhost.map((ip) => ({ ip, port: config.adminPort })),
        dump: {
          mesh: () => dumpState(state),
          staticConfig: () => local?.dump() ?? { workloads: [], services: [], policies: [] },
          certificates: () => secrets.entries(),
          version,
          config: shownConfig,
          connections: () => threads.connections(),
          progress: () => ({ sent: threads.sent, applied: threads.applied }),
          ...(config.mode === "shared" ? { proxies: () => proxies?.state?.pods() ?? [] } : {}),
        },
        logs: hub,
        initialFilter: config.logFilter,
        profiler: new Profiler(() => threads.workers),
        explain: (source, destination) => {
          const { network, clusterDomain, meshCidrs } = config;
          return explain(state, { source, destination, network, clusterDomain, meshCidrs, random: Math.random });
        },
        shutdown: () => void drain(),
        log: log.scope("admin"),
      }),
      await startMetricsServer({
        addresses: [{ ip: wildcard, port: config.statsPort }],
        metricsText: () => hub.metricsText(),
        log: log.scope("metrics"),
      }),
      await startReadinessServer({
        addresses: [{ ip: wildcard, port: config.readinessPort }],
        readiness,
        log: log.scope("readiness"),
      }),
    );
  } catch (error) {
    fatal(error);
    return { drain, ended };
  }

  void xds.ready
    .then(async () => {
      apply([{ kind: "synced" }]);
      stateManagerReady();
      const identities = provisioner;
      const { metrics } = hub;
      proxies = await startProxies({ config, threads, state, identities, metrics, readiness, log, onFatal: fatal });
      proxyReady();
      dnsReady?.();
      log.info("ready to take connections", { threads: config.threads });
    })
    .catch(fatal);
  return { drain, ended };
}

function logStart(log: Log, config: Config, version: string, settings: string): void {
  log.info(`version: ${version}`);
  const before = descriptorLimit().soft;
  log.info(`set file descriptor limits from ${before} to ${raiseDescriptorLimit().soft}`);
  log.info(`running with config: ${settings}`);
  for (const warning of config.warnings) log.warn(warning);
  if (config.meshCidrs.length > 0) {
    log.info("addresses in these ranges never pass through unknown", {
      ranges: config.meshCidrs.map(formatCidr).join(","),
    });
  }
  log.debug("machine", { cores: availableParallelism() });
}
