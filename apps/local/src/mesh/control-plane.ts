import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "@tulle/api";
import { type Log, sleep } from "@tulle/base";
import { convert, DEFAULT_MESH_SETTINGS, type MeshSettings, type ObjectStatus } from "@tulle/mesh/convert";
import { aliasesOf, encodeResource } from "@tulle/mesh/wds";
import {
  CaService,
  CertificateAuthority,
  credentialsOf,
  type GrpcServer,
  PrivateKey,
  spkiOf,
  startGrpcServer,
} from "@tulle/pki";
import { AdsServer, nodeMetadata, type XdsPeer } from "@tulle/xds";
import type { Objects } from "../objects/object-store.ts";
import type { NodeCredentials } from "./credentials.ts";

/**
 * The middle between objects and ztunnels: everything is computed anew from the objects at each change, and each client is
 * sent what differs. The next thing to be replaced by the real control plane, which follows single objects.
 */

export interface ControlPlaneOptions {
  /** The bridge's address. */
  readonly host: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  readonly credentials: NodeCredentials;
  readonly log: Log;
}

/** Where ztunnels expect istiod. */
const CONTROL_PLANE_PORT = 15012;
/** Longer than any local mesh runs; nothing renews it. */
const SERVER_CERTIFICATE_TTL_MS = 30 * 24 * 3_600_000;

const CLOSE_TIMEOUT_MS = 1000;

export class ControlPlane {
  /** PEM of the mesh's root certificate. */
  readonly rootsPem: string;
  readonly address: string;
  readonly #settings: MeshSettings;
  readonly #ads: AdsServer;
  readonly #server: GrpcServer;
  readonly #log: Log;
  readonly #names = new Map<string, Set<string>>();
  readonly #complaints = new Map<string, string>();

  private constructor(parts: {
    rootsPem: string;
    address: string;
    settings: MeshSettings;
    ads: AdsServer;
    server: GrpcServer;
    log: Log;
  }) {
    this.rootsPem = parts.rootsPem;
    this.address = parts.address;
    this.#settings = parts.settings;
    this.#ads = parts.ads;
    this.#server = parts.server;
    this.#log = parts.log;
  }

  /** A new root for every start: nothing signed yesterday is good today. */
  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    const { host, clusterId, clusterDomain, trustDomain, credentials, log } = options;
    const authority = await CertificateAuthority.selfSigned({ organization: trustDomain });
    const ads = new AdsServer({
      // Policies after addresses would be too late for a new workload; a workload that names a missing policy waits for it.
      types: [{ typeUrl: AUTHORIZATION_TYPE, alwaysWildcard: true }, { typeUrl: ADDRESS_TYPE }],
      log: log.scope("xds"),
      authenticate: async (context) => {
        const result = await credentials.authenticate(credentialsOf(context));
        return result.ok ? { ok: true, principal: result.caller.pod?.uid ?? "" } : result;
      },
      authorize: (peer) => Promise.resolve(ownNode(peer)),
    });
    const ca = new CaService({ authority: () => authority, policy: credentials, log: log.scope("ca") });
    const key = PrivateKey.generate();
    const own = await authority.issue({
      spki: spkiOf(key),
      ipAddresses: [host],
      dnsNames: [`istiod.istio-system.svc`],
      ttlMs: SERVER_CERTIFICATE_TTL_MS,
    });
    const server = await startGrpcServer({
      host,
      port: CONTROL_PLANE_PORT,
      certificateChainPem: own.chain.join(""),
      privateKeyPem: key.exportPem(),
      routes: (router) => {
        ca.register(router);
        ads.register(router);
      },
    });
    const settings = { ...DEFAULT_MESH_SETTINGS, clusterId, clusterDomain, trustDomain };
    const address = `https://${host}:${server.port}`;
    return new ControlPlane({ rootsPem: authority.rootsPem, address, settings, ads, server, log });
  }

  /** Serves the mesh of these objects from now on. */
  update(objects: Objects): void {
    const { resources, statuses } = convert(objects, this.#settings);
    const changed = new Map<string, { name: string; bytes: Uint8Array; aliases: readonly string[] }[]>([
      [AUTHORIZATION_TYPE, []],
      [ADDRESS_TYPE, []],
    ]);
    for (const resource of resources) {
      const { typeUrl, name, value } = encodeResource(resource);
      const aliases = aliasesOf(modelOf(resource));
      changed.get(typeUrl)?.push({ name, bytes: value, aliases });
    }
    for (const [typeUrl, list] of changed) {
      const names = new Set(list.map(({ name }) => name));
      const removed = [...(this.#names.get(typeUrl) ?? [])].filter((name) => !names.has(name));
      this.#names.set(typeUrl, names);
      this.#ads.update(typeUrl, { changed: list, removed });
    }
    this.#complain(statuses);
  }

  /** Whether every client has taken in everything that it was sent. */
  get settled(): boolean {
    return this.#ads.clients().every(({ types }) => types.every((type) => type.ackedNonce === type.sentNonce));
  }

  async close(): Promise<void> {
    // What a client does not acknowledge any more is the kernel's to end, not ours to wait for.
    await Promise.race([this.#server.close(), sleep(CLOSE_TIMEOUT_MS)]);
  }

  /** What of a policy is not enforced as it is written, once for every wording. */
  #complain(statuses: readonly ObjectStatus[]): void {
    const now = new Map<string, string>();
    for (const { kind, namespace, name, conditions } of statuses) {
      for (const { reason, message } of conditions) {
        if (reason === "Accepted" || reason === "WaypointAccepted") continue;
        const about = `${kind} ${namespace}/${name}`;
        now.set(about, message);
        if (this.#complaints.get(about) !== message) this.#log.warn(`${about}: ${message}`);
      }
    }
    this.#complaints.clear();
    for (const [about, message] of now) this.#complaints.set(about, message);
  }
}

function modelOf(resource: ReturnType<typeof convert>["resources"][number]) {
  switch (resource.kind) {
    case "workload":
      return resource.workload;
    case "service":
      return resource.service;
    case "policy":
      return resource.policy;
    default:
      return resource satisfies never;
  }
}

/** A node's token speaks for that node only. */
function ownNode(peer: XdsPeer): { readonly ok: true } | { readonly ok: false; readonly reason: string } {
  const name = nodeMetadata(peer.node, "NODE_NAME");
  return name === peer.principal ? { ok: true } : { ok: false, reason: `it says it is node ${name}` };
}
