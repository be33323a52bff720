import type { PutChange } from "../resource-log.ts";
import { policyKey } from "../model.ts";
import type { MeshObjectKind, MeshSettings, ObjectStatus } from "./context.ts";
import { Due, NAMESPACED_UNITS, WORKLOAD_KINDS } from "./due.ts";
import { EntryRegistry } from "./entry-registry.ts";
import { KeyIndex } from "./key-index.ts";
import { type KubeObjectLike, keyOf, labelOf, nameOf, namespaceOf } from "./kubernetes.ts";
import { Ledger, type MeshChanges } from "./ledger.ts";
import { readable } from "./readable.ts";
import { type ChangeOf, MESH_OBJECT_KINDS, type ObjectChange } from "./mesh-objects.ts";
import { MeshTables } from "./mesh-tables.ts";
import { collectNetworkGateways, REMOTE_CLASS } from "./network-gateway.ts";
import type { PeerAuthenticationChange } from "./peer-authentication.ts";
import { affectedBy, PolicyRegistry } from "./policy-registry.ts";
import { same } from "./same.ts";
import { convertUnit, type UnitKind } from "./unit.ts";
import { readWaypoint } from "./waypoint.ts";

/** For metrics. */
export interface MeshSizes {
  readonly objects: Readonly<Record<MeshObjectKind, number>>;
  readonly resources: Readonly<Record<PutChange["kind"], number>>;
  /** Conversions of single objects since the start. */
  readonly conversions: number;
}

const REVISION_LABEL = "istio.io/rev";
/** Kinds that can be for one control plane of several (control-plane.md §1.1). */
const REVISIONED: ReadonlySet<MeshObjectKind> = new Set([
  "AuthorizationPolicy",
  "PeerAuthentication",
  "ServiceEntry",
  "WorkloadEntry",
]);

/**
 * The mesh, followed object by object (control-plane.md §2). A change costs what depends on it: a pod itself; a Service
 * what it selects; a namespace or a node what is in it; a Gateway what names it; a policy what it selects.
 */
export class MeshIndex {
  readonly #tables: MeshTables;
  readonly #ledger = new Ledger();
  /** `namespace/name` of a Gateway → units that asked for it, whether it is there or not. */
  readonly #referrers = new KeyIndex();
  readonly #references = new Map<string, ReadonlySet<string>>();
  #due: Due;
  #everything = true;
  #gatewaysDue = false;
  #conversions = 0;

  constructor(settings: MeshSettings) {
    this.#tables = new MeshTables(settings);
    this.#due = new Due(this.#tables);
  }

  /** The object is new or another than before. Nothing is computed yet. The object must not change any more. */
  put(kind: MeshObjectKind, object: KubeObjectLike): void {
    const revision = REVISIONED.has(kind) ? labelOf(object, REVISION_LABEL) : undefined;
    const ours = revision === undefined || revision === this.#tables.settings.revision;
    if (ours) this.#tables.objects.put(kind, object);
    else this.remove(kind, namespaceOf(object), nameOf(object));
  }

  /** Cluster-scoped kinds have the namespace "". */
  remove(kind: MeshObjectKind, namespace: string, name: string): void {
    this.#tables.objects.remove(kind, namespace, name);
  }

  /** The configuration of the mesh changed: everything is due. */
  reconfigure(settings: MeshSettings): void {
    this.#tables.settings = settings;
    this.#everything = true;
  }

  /** Computes what is due, and tells what came out different. If it ever throws, everything is due at the next. */
  flush(): MeshChanges {
    const startOver = this.#everything;
    this.#everything = true;
    this.#settle(startOver);
    this.#everything = false;
    return this.#ledger.take();
  }

  get sizes(): MeshSizes {
    const { objects } = this.#tables;
    const counts = Object.fromEntries(MESH_OBJECT_KINDS.map((kind) => [kind, objects.count(kind)]));
    return {
      objects: counts as Record<MeshObjectKind, number>,
      resources: this.#ledger.counts,
      conversions: this.#conversions,
    };
  }

  #settle(everything: boolean): void {
    const tables = this.#tables;
    const changes = tables.objects.take();
    for (const change of changes) {
      tables.indices.update(change);
      if (isReplaced(change)) this.#ledger.forgetStatus(`${change.kind} ${change.key}`);
    }
    const network = tables.currentNetwork();
    if (everything || network !== tables.network) {
      tables.network = network;
      this.#startOver(changes);
    } else {
      for (const change of changes) this.#absorb(change);
    }
    if (this.#gatewaysDue) this.#refreshNetworkGateways();
    tables.entries.settle(() => tables.heldByPods());
    for (const key of this.#due.entries) this.#judge(key);
    for (const unit of this.#due.units) this.#convert(unit);
    this.#due = new Due(tables);
  }

  #absorb(change: ObjectChange): void {
    const due = this.#due;
    switch (change.kind) {
      case "Namespace":
        if (sameMarks(change)) return;
        due.namespace(change);
        for (const key of this.#tables.objects.keys("Gateway", nameOf(change.after ?? change.before ?? {}))) {
          this.#readGateway(key);
        }
        this.#gatewaysDue = true;
        return;
      case "Node":
        if (same(change.before?.metadata?.labels, change.after?.metadata?.labels)) return;
        for (const pod of this.#tables.indices.podsByNode.get(change.key.slice(1))) due.add("Pod", pod);
        return;
      case "Pod":
        due.pod(change);
        return;
      case "Service":
        due.serviceChange(change);
        return;
      case "EndpointSlice":
        due.endpointSlice(change);
        return;
      case "ServiceEntry":
        due.serviceEntry(change.key);
        return;
      case "WorkloadEntry":
        due.workloadEntry(change.key);
        return;
      case "Gateway":
        due.addAttached(`Gateway ${change.key}`);
        this.#readGateway(change.key);
        if ([change.before, change.after].some((one) => one?.spec?.gatewayClassName === REMOTE_CLASS)) {
          this.#gatewaysDue = true;
        }
        return;
      case "GatewayClass":
        due.addAttached(`GatewayClass ${change.key}`);
        if (sameMarks(change)) return;
        for (const gateway of this.#tables.objects.all("Gateway")) {
          if (gateway.spec?.gatewayClassName === change.key.slice(1)) this.#readGateway(keyOf(gateway));
        }
        return;
      case "AuthorizationPolicy":
        due.add("AuthorizationPolicy", change.key);
        for (const affected of this.#tables.policies.setAuthorization(change.key, change.after)) {
          due.addAffected(affected);
        }
        return;
      case "PeerAuthentication":
        if (isReplaced(change)) {
          this.#absorbMtls(change.key, this.#tables.policies.setPeerAuthentication(change.key, undefined));
        }
        this.#absorbMtls(change.key, this.#tables.policies.setPeerAuthentication(change.key, change.after));
        return;
      default:
        return change satisfies never;
    }
  }

  #absorbMtls(key: string, change: PeerAuthenticationChange): void {
    for (const policy of change.puts) {
      this.#ledger.replace(`Mtls ${policyKey(policy)}`, { resources: [{ kind: "policy", policy }], status: undefined });
    }
    for (const policy of change.removes) this.#ledger.replace(`Mtls ${policy}`, undefined);
    if (this.#tables.objects.get("PeerAuthentication", key) === undefined) {
      this.#ledger.replace(`PeerAuthentication ${key}`, undefined);
    }
    for (const status of change.statuses) this.#say(status);
    for (const affected of affectedBy(change)) this.#due.addAffected(affected);
  }

  #say(status: ObjectStatus): void {
    const key = `${status.namespace}/${status.name}`;
    const object = this.#tables.objects.get("PeerAuthentication", key);
    this.#ledger.replace(`PeerAuthentication ${key}`, { resources: [], status }, object);
  }

  /** Settings or network are others: all tables are made again, and all units are due. */
  #startOver(changes: readonly ObjectChange[]): void {
    const tables = this.#tables;
    const { objects } = tables;
    for (const { kind, key, after } of changes) {
      if (after !== undefined) continue;
      if (kind === "PeerAuthentication") this.#ledger.replace(`${kind} ${key}`, undefined);
      else this.#due.units.add(`${kind} ${key}`);
    }
    const formerly = new Set(tables.policies.peerPolicies().map(policyKey));
    tables.policies = new PolicyRegistry(
      tables.settings,
      objects.all("AuthorizationPolicy"),
      objects.all("PeerAuthentication"),
    );
    const puts = tables.policies.peerPolicies();
    for (const policy of puts) formerly.delete(policyKey(policy));
    const statuses = tables.policies.peerStatuses();
    this.#absorbMtls("", { affected: "none", puts, removes: [...formerly], statuses });
    tables.entries = new EntryRegistry();
    tables.waypoints.clear();
    for (const key of objects.keys("Gateway")) this.#readGateway(key);
    for (const key of objects.keys("Service")) this.#due.service(key);
    for (const key of objects.keys("WorkloadEntry")) this.#due.workloadEntry(key);
    for (const key of objects.keys("ServiceEntry")) this.#due.serviceEntry(key);
    this.#gatewaysDue = true;
    this.#due.addAll([...NAMESPACED_UNITS, "AuthorizationPolicy"]);
  }

  #readGateway(key: string): void {
    const { objects, waypoints, network } = this.#tables;
    const gateway = objects.get("Gateway", key);
    const discovered = gateway !== undefined && this.#tables.isDiscovered(namespaceOf(gateway));
    const gatewayClass = objects.get("GatewayClass", `/${gateway?.spec?.gatewayClassName ?? ""}`);
    const after = discovered ? readable(() => readWaypoint(gateway, gatewayClass, network), undefined) : undefined;
    if (same(waypoints.get(key), after)) return;
    if (after === undefined) waypoints.delete(key);
    else waypoints.set(key, after);
    for (const unit of this.#referrers.get(key)) this.#due.units.add(unit);
  }

  #refreshNetworkGateways(): void {
    this.#gatewaysDue = false;
    const tables = this.#tables;
    const remote = [...tables.objects.all("Gateway")].filter((gateway) => {
      return gateway.spec?.gatewayClassName === REMOTE_CLASS && tables.isDiscovered(namespaceOf(gateway));
    });
    const { byNetwork, workloads } = collectNetworkGateways(remote, tables.settings);
    const resources = workloads.map((workload) => ({ kind: "workload", workload }) as const);
    this.#ledger.replace("NetworkGateways", { resources, status: undefined });
    if (same(byNetwork, tables.networkGateways)) return;
    const own = same(byNetwork.get(tables.network), tables.networkGateways.get(tables.network));
    tables.networkGateways = byNetwork;
    // Only endpoints that are written by hand can be in another network.
    this.#due.addAll(own ? ["WorkloadEntry", "ServiceEntry"] : WORKLOAD_KINDS);
  }

  #judge(key: string): void {
    const { entries, podAt, settings } = this.#tables;
    const others = { foreignPod: podAt, clusterDomain: settings.clusterDomain };
    for (const { namespace, selector } of entries.judge(key, others)) {
      this.#due.addSelected(selector, namespace);
    }
  }

  #convert(unit: string): void {
    const space = unit.indexOf(" ");
    const [kind, key] = [unit.slice(0, space) as UnitKind, unit.slice(space + 1)];
    const references = new Set<string>();
    const result = convertUnit(kind, key, this.#tables, (name) => {
      references.add(name);
      return this.#tables.waypoints.get(name);
    });
    this.#conversions += 1;
    this.#referrers.move(unit, this.#references.get(unit) ?? [], references);
    if (references.size === 0) this.#references.delete(unit);
    else this.#references.set(unit, references);
    this.#ledger.replace(unit, result, this.#tables.objects.get(kind, key));
  }
}

/** Deleted and made again in between. */
function isReplaced({ before, after }: ObjectChange): boolean {
  return before !== undefined && after !== undefined && before.metadata?.uid !== after.metadata?.uid;
}

/** Namespaces and classes matter by their labels and annotations only. */
function sameMarks({ before, after }: ChangeOf<"Namespace"> | ChangeOf<"GatewayClass">): boolean {
  const [old, current] = [before?.metadata, after?.metadata];
  return same(old?.labels, current?.labels) && same(old?.annotations, current?.annotations);
}
