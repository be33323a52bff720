import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { WAYPOINT_OPTIONAL_ANNOTATION } from "@tulle/base";
import { CommandError, until } from "@tulle/lab";
import { ECHO_PORTS } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { type App, ELSEWHERE, hosts, NAMESPACE } from "./scene.ts";

const USE_WAYPOINT = "istio.io/use-waypoint";
/** ztunnel waits five seconds for a waypoint that may be about to come; a client that waits longer is told. */
const PATIENCE = "15s";
const WAYPOINT_LIMIT = { timeoutMs: 25_000, intervalMs: 100 };
/** For conditions and logs: a second on a quiet machine. */
const TOLD_LIMIT_MS = 30_000;

/** A client, and `HOST:PORT` where it asks. */
type Question = readonly [from: App, address: string];

interface Case {
  readonly what: string;
  /** Its name in the label; another one in each case, so that the log tells them apart. */
  readonly waypoint: string;
  readonly scene: (apps: Applications) => {
    /** What is labelled and annotated, as kubectl takes it. */
    readonly object: readonly string[];
    readonly behind: readonly Question[];
    /** The same pods by another way, which is not behind the waypoint. */
    readonly beside: readonly Question[];
    /** `namespace/name` of the Service that says what became of the label. */
    readonly service?: string;
  };
}

/** Has no address, as nobody serves its class. */
const PENDING = {
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "Gateway",
  metadata: { name: "pending", namespace: NAMESPACE },
  spec: { gatewayClassName: "nobody", listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }] },
};

/** Further Services of `captured`: those that other tests use stay as they are. */
const SERVICES = ["behind-missing", "behind-pending"];

const CASES: readonly Case[] = [
  { what: "a service's label names no Gateway", waypoint: "missing-a", scene: onService("behind-missing") },
  {
    what: "a service's label names a Gateway without address",
    waypoint: "pending",
    scene: onService("behind-pending"),
  },
  {
    what: "a pod's label names no Gateway",
    waypoint: "missing-b",
    scene: (apps) => ({
      object: [`pod/${apps.pod("local").metadata.name}`, "-n", NAMESPACE],
      behind: hosts(apps.pod("local")).map((host) => ["client", `${host}:${ECHO_PORTS.http}`]),
      beside: [["client", `local.${NAMESPACE}:80`]],
    }),
  },
  {
    what: "a namespace's label names no Gateway",
    waypoint: "missing-c",
    scene: (apps) => ({
      object: [`namespace/${ELSEWHERE}`],
      behind: [
        ["client", `visitor.${ELSEWHERE}:80`],
        ["stranger", `${hosts(apps.pod("visitor"))[0]}:${ECHO_PORTS.http}`],
      ],
      beside: [["visitor", `captured.${NAMESPACE}:80`]],
      service: `${ELSEWHERE}/visitor`,
    }),
  },
];

interface ServiceObject {
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason: string;
      readonly message: string;
    }[];
  };
}

/** What is behind a waypoint that is not there is closed, unless its owner has said that it may be missing. */
export function waypointTests(apps: () => Applications): void {
  const get = (from: App, address: string) =>
    apps().cluster.execDirectly(apps().pod(from), ["/labbox", "get", `-timeout=${PATIENCE}`, `http://${address}/`]);
  const passes = (questions: readonly Question[]) =>
    Promise.all(
      questions.map(([from, address]) =>
        until(() => get(from, address), { what: `${from} to reach ${address}`, ...WAYPOINT_LIMIT }),
      ),
    );
  /** The connection is ended by somebody: no answer is no refusal. */
  const refused = (questions: readonly Question[]) =>
    Promise.all(
      questions.map(([from, address]) =>
        until(
          async () => {
            const error = await get(from, address).then(
              () => undefined,
              (cause: unknown) => cause,
            );
            return error instanceof CommandError && /EOF|reset by peer/.test(error.stderr);
          },
          { what: `${from} to be refused at ${address}`, ...WAYPOINT_LIMIT },
        ),
      ),
    );
  const bound = async (service: string) => {
    const [namespace, name] = service.split("/");
    const found = await apps().cluster.get<ServiceObject>(`/api/v1/namespaces/${namespace}/services/${name}`);
    return found?.status?.conditions?.find(({ type }) => type === "istio.io/WaypointBound");
  };
  const says = async (service: string | undefined, message: RegExp) => {
    if (service === undefined) return;
    const { status, reason } = await until(
      async () => {
        const condition = await bound(service);
        return condition !== undefined && message.test(condition.message) && condition;
      },
      { what: `WaypointBound of ${service} to say ${message}`, timeoutMs: TOLD_LIMIT_MS },
    );
    assert.deepEqual([status, reason], ["False", "WaypointIsNotReady"]);
  };
  const refusalIsLogged = (waypoint: string, since: number) => {
    const expected = new RegExp(`waypoint .*${waypoint}\\.[\\w-]+\\.waypoint\\.invalid not found`);
    return until(
      async () => {
        const lines = [...(await apps().mesh.accessLog(1, since)), ...(await apps().mesh.accessLog(2, since))];
        return lines.some(({ direction, error }) => direction === "outbound" && expected.test(error ?? ""));
      },
      { what: `the access log to name the waypoint ${waypoint}`, timeoutMs: TOLD_LIMIT_MS, intervalMs: 500 },
    );
  };

  // Each waits for ztunnel's five seconds; what they change is not shared.
  describe("a waypoint that is not there", { concurrency: CASES.length }, () => {
    const made = [PENDING, ...SERVICES.map(serviceObject)];

    before(() => apps().apply(...made));
    after(() => apps().delete(...made));

    for (const { what, waypoint, scene } of CASES) {
      test(`keeps everybody out where ${what}, until an annotation calls it optional`, async () => {
        const { object, behind, beside, service } = scene(apps());
        const set = (metadata: object) =>
          apps().cluster.kubectl(["patch", ...object, "--type=merge", "-p", JSON.stringify({ metadata })]);
        await passes(behind);
        const since = Date.now();
        await set({ labels: { [USE_WAYPOINT]: waypoint } });
        try {
          await refused(behind);
          await passes(beside);
          await says(service, /is not ready\. Traffic is refused until this is solved/);
          await refusalIsLogged(waypoint, since);
          await set({ annotations: { [WAYPOINT_OPTIONAL_ANNOTATION]: "true" } });
          await passes([...behind, ...beside]);
          await says(service, /is not ready\. Traffic goes without a waypoint/);
        } finally {
          await set({ labels: { [USE_WAYPOINT]: null }, annotations: { [WAYPOINT_OPTIONAL_ANNOTATION]: null } });
        }
        await passes(behind);
        if (service === undefined) return;
        await until(async () => (await bound(service)) === undefined, {
          what: `${service} to say nothing more`,
          timeoutMs: TOLD_LIMIT_MS,
        });
      });
    }
  });
}

function onService(name: string): Case["scene"] {
  return () => ({
    object: [`service/${name}`, "-n", NAMESPACE],
    behind: [
      ["client", `${name}.${NAMESPACE}:80`],
      ["visitor", `${name}.${NAMESPACE}:80`],
    ],
    beside: [["client", `captured.${NAMESPACE}:80`]],
    service: `${NAMESPACE}/${name}`,
  });
}

function serviceObject(name: string): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: NAMESPACE },
    spec: { selector: { app: "captured" }, ports: [{ name: "http", port: 80, targetPort: ECHO_PORTS.http }] },
  };
}
