import { ADDRESS_TYPE } from "@tulle/api";
import { type Clock, type Log, messageOf, systemClock } from "@tulle/base";
import { DEFAULT_MESH_SETTINGS, MeshIndex, podUid } from "@tulle/mesh/convert";
import { CaService, startGrpcServer } from "@tulle/pki";
import type { Store } from "@tulle/store";
import { Profiler } from "@tulle/telemetry/profiling";
import type { Authenticator } from "./auth/authenticator.ts";
import { NodeAccounts } from "./auth/node-accounts.ts";
import { openAuthenticator } from "./auth/open-authenticator.ts";
import { PodIndex } from "./auth/pod-index.ts";
import { openAuthority } from "./ca/open-authority.ts";
import { CertificatePolicy } from "./ca/policy.ts";
import { servingHosts, ServingCertificate } from "./ca/serving-certificate.ts";
import type { Config } from "./config.ts";
import { Discovery } from "./discovery/discovery.ts";
import { LeavingPods, writeLeft } from "./discovery/leaving-pods.ts";
import { MeshConfigWatch, type Settings } from "./discovery/mesh-config-watch.ts";
import { MeshWatches } from "./discovery/mesh-watches.ts";
import type { DebugSources } from "./http/debug.ts";
import { dumpServed } from "./http/mesh-dump.ts";
import { createMetrics } from "./http/metrics.ts";
import { startHttpServers } from "./http/servers.ts";
import { StatusWriter } from "./status/status-writer.ts";
import { RootConfigMaps } from "./trust/root-config-maps.ts";
import { VipController } from "./vip/vip-controller.ts";
import { DebugStream } from "./xds/debug-stream.ts";
import { createDiscoveryServer } from "./xds/discovery-server.ts";
import { connectedProxies, missingProxies } from "./xds/proxies.ts";

/** What a control plane is given; the process makes them from its environment, tests bring their own. */
export interface Surroundings {
  readonly store: Store;
  readonly log: Log;
  readonly clock?: Clock;
  /** Default: as the configuration says. */
  readonly authenticator?: Authenticator;
  /** How long a pod that no watch has brought yet is waited for. Default 1 s. */
  readonly patienceMs?: number;
}

/** A running control plane. */
export interface ControlPlane {
  readonly ports: { readonly secureGrpc: number; readonly http: number; readonly monitoring: number };
  /** PEM of the mesh's roots. */
  readonly roots: () => string;
  /** Resolves when the mesh is known and served. */
  readonly ready: Promise<void>;
  /** Ends gracefully: streams are ended, clients told to go elsewhere. Resolves when everything is closed. */
  drain(): Promise<void>;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
}

/** Who does not say in time who it is, is not kept; nor are more of them than this. */
const UNAUTHENTICATED = { timeoutMs: 15_000, maxConnections: 1_000 };
const MAX_CONNECTIONS = 20_000;

/**
 * The one place where the parts of the control plane meet: the authority first, since the server's certificate is of it;
 * then the servers; then what they serve. Nothing is answered before the first state of every kind of objects is known.
 */
export async function startControlPlane(config: Config, surroundings: Surroundings): Promise<ControlPlane> {
  const { store, log, clock = systemClock } = surroundings;
  const meshConfig = await MeshConfigWatch.open({
    store,
    namespace: config.namespace,
    base: baseSettings(config),
    log: log.scope("config"),
  });
  const authority = await openAuthority({
    config,
    trustDomain: meshConfig.settings.trustDomain,
    store,
    clock,
    log: log.scope("ca"),
  });
  const ready = Promise.withResolvers<void>();
  // Who waits for it has a deadline of its own.
  ready.promise.catch(() => undefined);

  const index = new MeshIndex(meshConfig.settings);
  const pods = new PodIndex({
    enrolment: config.enrolment,
    onGone: ({ metadata }) =>
      ads.disconnect(({ principal }) => principal.pod?.uid === metadata.uid, `its pod ${metadata.name} is gone`),
  });
  const patience = surroundings.patienceMs === undefined ? {} : { patienceMs: surroundings.patienceMs };
  const accounts = new NodeAccounts({ trusted: config.auth.trustedNodeAccounts, pods, ...patience });
  const authenticator = surroundings.authenticator ?? openAuthenticator(config.auth, store);
  const metrics = createMetrics({
    version: config.version,
    sizes: () => index.sizes,
    streams: () => ads.clients().length,
    connectedZtunnels: () => connectedProxies(ads).length,
    leavingPods: () => leaving.size,
    rootExpiry: () => Math.min(...authority.current().trustBundle.roots.map((root) => root.validToDate.getTime())),
    chainExpiry: () => authority.current().certificate.validToDate.getTime(),
    synced: () => watches.unsynced.length === 0,
    watchProblems: () => watches.problems,
  });
  const ads = createDiscoveryServer({
    authenticator,
    accounts,
    clusterId: config.clusterId,
    ready: () => ready.promise,
    maxStreamAgeMs: config.maxStreamAgeMs,
    observer: {
      ...metrics.ads,
      onAck: (peer, ack) => {
        metrics.ads.onAck?.(peer, ack);
        leaving.look();
      },
      onStreams: () => leaving.look(),
    },
    onNack: metrics.onNack,
    log: log.scope("xds"),
  });
  const leaving = new LeavingPods({
    position: () => ads.cache(ADDRESS_TYPE).sequence,
    behind: (position, name) => connectedProxies(ads, ads.behind(ADDRESS_TYPE, position, name)),
    missing: () => missingProxies(ads, accounts),
    resourceName: (pod) => podUid(config.clusterId, pod),
    write: (pod, id) => writeLeft(store, pod, id),
    log: log.scope("leaving"),
    clock,
  });
  const statuses = new StatusWriter({
    store,
    lookup: (kind, ref) => watches.get(kind, ref),
    log: log.scope("status"),
    clock,
  });
  const vips = new VipController({ store, ranges: config.vip.ranges, log: log.scope("vip"), clock });
  const discovery = new Discovery({
    index,
    sink: ads,
    windowMs: config.batchWindowMs,
    log: log.scope("discovery"),
    onEvent: metrics.onEvent,
    onLeftOut: metrics.onLeftOut,
    onStatuses: (changed) => statuses.write(changed),
    onFlushed: (flush) => {
      metrics.onFlushed(flush);
      leaving.flushed();
    },
  });
  meshConfig.subscribe((settings) => discovery.reconfigure(settings));
  const ca = new CaService({
    authority: () => authority.current(),
    policy: new CertificatePolicy({
      authenticator,
      accounts,
      pods,
      clusterId: config.clusterId,
      trustDomain: () => meshConfig.settings.trustDomain,
      ready: () => ready.promise,
      ...patience,
      onRefused: (proxy, reason) => {
        store.event(proxy, { type: "Warning", reason: "CertificateRefused", message: `no certificate: ${reason}` });
      },
    }),
    log: log.scope("ca"),
    onOutcome: metrics.onOutcome,
  });

  const debugNamespaces = new Set([config.namespace, ...config.auth.debugNamespaces]);
  const sources: DebugSources = {
    clusterId: config.clusterId,
    clients: () => ads.clients(),
    mesh: () => dumpServed((typeUrl) => ads.cache(typeUrl)),
    settings: () => meshConfig.settings,
    objects: () => watches.configuration(),
    synced: () => watches.unsynced.length === 0,
  };
  const debug = new DebugStream({
    ...config,
    authenticator,
    namespaces: debugNamespaces,
    sources,
    log: log.scope("xds"),
  });
  const hosts = servingHosts({ ...config, customHosts: config.ca.customHosts });
  const serving = await ServingCertificate.start(
    { authority, hosts, maxTtlMs: config.ca.maxTtlMs, log: log.scope("ca"), clock },
    ({ chainPem, privateKeyPem }) => grpc.setCertificate(chainPem, privateKeyPem),
  );
  const grpc = await startGrpcServer({
    host: config.listen.host,
    port: config.listen.secureGrpcPort,
    certificateChainPem: serving.first.chainPem,
    privateKeyPem: serving.first.privateKeyPem,
    unauthenticated: UNAUTHENTICATED,
    maxConnections: MAX_CONNECTIONS,
    onRefused: metrics.onConnectionRefused,
    routes: (router) => {
      ca.register(router);
      ads.register(router);
      debug.register(router);
    },
  });
  const watches = new MeshWatches({
    store,
    // Who asks for a certificate may be here before the next flush: pods are known at once.
    onPut: (kind, object) => {
      if (kind === "Pod") {
        pods.put(object);
        leaving.put(object);
      }
      if (kind === "Namespace") pods.putNamespace(object);
      if (kind === "ServiceEntry") vips.put(object);
      discovery.put(kind, object);
    },
    onGone: (kind, object) => {
      if (kind === "Pod") {
        pods.remove(object);
        leaving.remove(object);
      }
      if (kind === "Namespace") pods.removeNamespace(object.metadata.name);
      if (kind === "ServiceEntry") vips.remove(object.metadata);
      discovery.remove(kind, object);
    },
  });
  const roots = new RootConfigMaps({ store, roots: () => authority.current().rootsPem, log: log.scope("trust") });
  const stopRoots = authority.subscribe(() => roots.refresh());
  let isReady = false;
  const http = await startHttpServers({
    config,
    metrics: metrics.set,
    isReady: () => isReady,
    unsynced: () => watches.unsynced,
    debug: {
      sources,
      guard: {
        authenticator,
        clusterId: config.clusterId,
        namespaces: debugNamespaces,
      },
      profiler: new Profiler(() => []),
    },
    log: log.scope("http"),
  });
  void watches.whenSynced().then(
    () => {
      discovery.start();
      if (config.vip.enabled) vips.start();
      isReady = true;
      ready.resolve();
      log.info("ready", { workloads: index.sizes.resources.workload, services: index.sizes.resources.service });
    },
    (error: unknown) => log.warn("the mesh was not learned", { error: messageOf(error) }),
  );

  const ended = Promise.withResolvers<void>();
  let draining: Promise<void> | undefined;
  const shutDown = async () => {
    log.info("shutting down", { deadline: `${config.drainMs}ms` });
    isReady = false;
    leaving.close();
    discovery.close();
    ads.close();
    await Promise.all([statuses.close(), vips.close()]);
    await grpc.close(config.drainMs);
    serving.certificate.close();
    stopRoots();
    roots.close();
    watches.close();
    meshConfig.close();
    authority.close();
    await Promise.allSettled([http.close(), store[Symbol.asyncDispose]()]);
    ended.resolve();
  };
  return {
    ports: { secureGrpc: grpc.port, ...http.ports },
    roots: () => authority.current().rootsPem,
    ready: ready.promise,
    drain: () => (draining ??= shutDown()),
    ended: ended.promise,
  };
}

/** What holds where the ConfigMap says nothing. */
function baseSettings({ clusterId, domainSuffix, namespace }: Config): Settings {
  return {
    ...DEFAULT_MESH_SETTINGS,
    clusterId,
    clusterDomain: domainSuffix,
    rootNamespace: namespace,
    systemNamespace: namespace,
  };
}
