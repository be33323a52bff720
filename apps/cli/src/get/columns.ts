import { REDIRECTION_ANNOTATION } from "@tulle/base";
import type { KubeObject, Pod, Service } from "@tulle/store";
import type { Table } from "../ui/table.ts";

/** What a list shows of an object besides its name and age. */

interface Column {
  readonly title: string;
  readonly cell: (object: KubeObject) => string;
  /** Only with -o wide. */
  readonly wide?: boolean;
}

const NONE = "<none>";

const POD_COLUMNS: readonly Column[] = [
  {
    title: "READY",
    cell: (object) => {
      const { status, spec } = object as Pod;
      const ready = status?.containerStatuses?.filter((container) => container.ready === true).length ?? 0;
      return `${ready}/${spec?.containers?.length ?? 0}`;
    },
  },
  { title: "STATUS", cell: (object) => (object as Pod).status?.phase ?? "" },
  { title: "MESH", cell: ({ metadata }) => metadata.annotations?.[REDIRECTION_ANNOTATION] ?? NONE },
  { title: "IP", wide: true, cell: (object) => (object as Pod).status?.podIP ?? NONE },
  { title: "NODE", wide: true, cell: (object) => (object as Pod).spec?.nodeName ?? NONE },
];

const COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  Pod: POD_COLUMNS,
  Service: [
    { title: "TYPE", cell: (object) => (object as Service).spec?.type ?? "ClusterIP" },
    { title: "CLUSTER-IP", cell: (object) => (object as Service).spec?.clusterIP ?? NONE },
    {
      title: "PORTS",
      cell: (object) =>
        ((object as Service).spec?.ports ?? []).map(({ port, protocol }) => `${port}/${protocol ?? "TCP"}`).join(",") ||
        NONE,
    },
    { title: "CONDITIONS", wide: true, cell: conditions },
  ],
  Namespace: [
    { title: "STATUS", cell: (object) => field(object, "status", "phase") || "Active" },
    { title: "MESH", cell: ({ metadata }) => metadata.labels?.["istio.io/dataplane-mode"] ?? NONE },
  ],
  AuthorizationPolicy: [
    { title: "ACTION", cell: (object) => field(object, "spec", "action") || "ALLOW" },
    { title: "CONDITIONS", cell: conditions },
  ],
  PeerAuthentication: [
    { title: "MODE", cell: (object) => field(object, "spec", "mtls", "mode") || "UNSET" },
    { title: "CONDITIONS", cell: conditions },
  ],
  ServiceEntry: [
    { title: "HOSTS", cell: (object) => ((object["spec"] as { hosts?: readonly string[] })?.hosts ?? []).join(",") },
    { title: "RESOLUTION", cell: (object) => field(object, "spec", "resolution") || "NONE" },
    { title: "CONDITIONS", cell: conditions },
  ],
  WorkloadEntry: [
    { title: "ADDRESS", cell: (object) => field(object, "spec", "address") },
    { title: "CONDITIONS", cell: conditions },
  ],
  Gateway: [
    { title: "CLASS", cell: (object) => field(object, "spec", "gatewayClassName") },
    { title: "CONDITIONS", cell: conditions },
  ],
};

/** `namespaces`: show which one each is in. `now`: milliseconds since the epoch. */
export function objectTable(
  kind: string,
  objects: readonly KubeObject[],
  options: { readonly namespaces: boolean; readonly wide: boolean; readonly now: number },
): Table {
  const columns = (COLUMNS[kind] ?? [{ title: "CONDITIONS", cell: conditions, wide: true }]).filter(
    ({ wide }) => options.wide || wide !== true,
  );
  return {
    columns: [...(options.namespaces ? ["NAMESPACE"] : []), "NAME", ...columns.map(({ title }) => title), "AGE"],
    rows: objects.map((object) => [
      ...(options.namespaces ? [object.metadata.namespace ?? ""] : []),
      object.metadata.name,
      ...columns.map(({ cell }) => cell(object)),
      age(object.metadata.creationTimestamp, options.now),
    ]),
  };
}

/** `Accepted,Ready=False`: True ones by their names. */
function conditions(object: KubeObject): string {
  const { conditions = [] } = (object["status"] ?? {}) as { conditions?: readonly { type: string; status: string }[] };
  const texts = conditions.map(({ type, status }) => (status === "True" ? type : `${type}=${status}`));
  return texts.length === 0 ? NONE : texts.join(",");
}

function field(object: KubeObject, ...path: readonly string[]): string {
  let value: unknown = object;
  for (const name of path) value = (value as Readonly<Record<string, unknown>> | undefined)?.[name];
  return typeof value === "string" ? value : "";
}

/** `5m`, as kubectl has it, of one unit. */
export function age(created: string | undefined, now: number): string {
  const seconds = Math.floor((now - Date.parse(created ?? "")) / 1000);
  if (Number.isNaN(seconds)) return "<unknown>";
  const units: readonly (readonly [seconds: number, unit: string])[] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "m"],
  ];
  // Two of the smaller unit are still worth telling: 90s, 30h.
  const [size, unit] = units.find(([size]) => seconds >= 2 * size) ?? [1, "s"];
  return `${Math.floor(Math.max(0, seconds) / size)}${unit}`;
}
