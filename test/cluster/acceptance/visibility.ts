import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { MESH_CONFIG_KEY, MESH_CONFIG_MAP } from "@tulle/base";
import { until } from "@tulle/lab";
import { ECHO_PORTS, MESH_NAMESPACE } from "../src/index.ts";
import type { Applications } from "./applications.ts";
import { type App, ELSEWHERE, NAMESPACE } from "./scene.ts";
import { NO_HOST } from "./service-entries.ts";

/** Has nothing but a ServiceEntry, which all may see. */
const SHOWN = "acceptance-shown";
/** A host of two ServiceEntries: the older one in ELSEWHERE, the younger in SHOWN. */
const SHARED = "shared.visibility.example.com";
/** Of a ServiceEntry in ELSEWHERE. */
const OWN = "own.visibility.example.com";
/** A client may have remembered for twenty seconds that there is no such name; the rest is for a busy machine. */
const DNS_LIMIT = { timeoutMs: 60_000, intervalMs: 100 };
/** For conditions: a second on a quiet machine. */
const CONDITION_LIMIT_MS = 30_000;

type Visibility = "PUBLIC" | "NAMESPACE" | "NONE";
/** By whose entry a host leads an app; undefined: there is no such host. */
type Leads = "older" | "younger" | undefined;

/** Where the entries lead: to Services, as pods of another namespace are no endpoints. */
const ENDPOINTS = { older: "uncaptured", younger: "local" } as const;

/** For ELSEWHERE; SHOWN is public in all of them. */
const CASES: readonly {
  readonly what: string;
  /** undefined: MeshConfig says nothing of it. */
  readonly elsewhere: Visibility | undefined;
  readonly leads: Readonly<Record<string, Partial<Readonly<Record<App, Leads>>>>>;
  /** Reason of the condition of the entry for OWN. */
  readonly reason: string | undefined;
}[] = [
  {
    what: "is not asked for, all see all, and the older of two entries has the host",
    elsewhere: undefined,
    leads: { [SHARED]: { client: "older", visitor: "older" }, [OWN]: { client: "older", visitor: "older" } },
    reason: undefined,
  },
  {
    what: "is NAMESPACE, others do not see the entry, and it does not shadow a younger one that they see",
    elsewhere: "NAMESPACE",
    leads: { [SHARED]: { client: "younger", visitor: "older" }, [OWN]: { client: undefined, visitor: "older" } },
    reason: "Namespace",
  },
  {
    what: "is NONE, nobody sees the entry, and it shadows no other",
    elsewhere: "NONE",
    leads: { [SHARED]: { client: "younger", visitor: "younger" }, [OWN]: { client: undefined, visitor: undefined } },
    reason: "None",
  },
  {
    what: "is PUBLIC, it is as if nothing was asked for, and the entry says so",
    elsewhere: "PUBLIC",
    leads: { [SHARED]: { client: "older", visitor: "older" }, [OWN]: { client: "older", visitor: "older" } },
    reason: "Public",
  },
];

interface ConfigMap {
  readonly data: Readonly<Record<string, string>>;
}

interface EntryObject {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly reason: string }[] };
}

/** MeshConfig.serviceEntryVisibility: whose ServiceEntries are for whom. */
export function visibilityTests(apps: () => Applications): void {
  const path = `/api/v1/namespaces/${MESH_NAMESPACE}/configmaps/${MESH_CONFIG_MAP}`;
  const configure = (text: string) => {
    const patch = JSON.stringify({ data: { [MESH_CONFIG_KEY]: text } });
    return apps().cluster.kubectl(["patch", "configmap", MESH_CONFIG_MAP, "-n", MESH_NAMESPACE, "-p", patch]);
  };
  const leads = async (app: App, host: string): Promise<Leads> => {
    try {
      await apps().lookUp(app, host);
    } catch (error) {
      assert.match(String(error), NO_HOST);
      return undefined;
    }
    const { pod } = await apps().ask(app, `http://${host}/`);
    return pod.startsWith(ENDPOINTS.older) ? "older" : "younger";
  };
  const reasonOf = async (namespace: string, name: string) => {
    const entries = `/apis/networking.istio.io/v1/namespaces/${namespace}/serviceentries`;
    const entry = await apps().cluster.get<EntryObject>(`${entries}/${name}`);
    return entry?.status?.conditions?.find(({ type }) => type === "istio.io/VisibilityApplied")?.reason;
  };

  describe("visibility of ServiceEntries", () => {
    let config = "";

    before(async () => {
      config = (await apps().cluster.get<ConfigMap>(path))?.data[MESH_CONFIG_KEY] ?? assert.fail("no MeshConfig");
      await apps().apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: SHOWN } });
      await apps().apply(entry("shared", ELSEWHERE, SHARED, "older"), entry("own", ELSEWHERE, OWN, "older"));
      await apps().apply(entry("shared", SHOWN, SHARED, "younger"));
    });

    after(async () => {
      await configure(config);
      await apps().cluster.kubectl(["delete", "namespace", SHOWN, "--wait=false"]);
    });

    for (const { what, elsewhere, leads: expected, reason } of CASES) {
      test(`of another namespace: where it ${what}`, async () => {
        await configure(elsewhere === undefined ? config : `${config}\n${visibilities(elsewhere)}`);
        const questions = Object.entries(expected).flatMap(([host, clients]) =>
          (Object.entries(clients) as [App, Leads][]).map(([app, where]) => ({ host, app, where })),
        );
        await Promise.all(
          questions.map(({ host, app, where }) =>
            until(async () => (await leads(app, host)) === where, {
              what: `${host} to lead ${app} to ${where ?? "nothing"}`,
              ...DNS_LIMIT,
            }),
          ),
        );
        await until(async () => (await reasonOf(ELSEWHERE, "own")) === reason, {
          what: `VisibilityApplied=${reason}`,
          timeoutMs: CONDITION_LIMIT_MS,
        });
        const shown = elsewhere === undefined ? undefined : "Public";
        if (elsewhere !== "PUBLIC") {
          await until(async () => (await reasonOf(SHOWN, "shared")) === shown, {
            what: `the other entry to be ${shown}`,
            timeoutMs: CONDITION_LIMIT_MS,
          });
        }
      });
    }

    test("of all is as before when MeshConfig is put back", async () => {
      await configure(config);
      await until(async () => (await leads("client", OWN)) === "older", { what: `client to see ${OWN}`, ...DNS_LIMIT });
      await until(async () => (await reasonOf(ELSEWHERE, "own")) === undefined, {
        what: "VisibilityApplied to go",
        timeoutMs: CONDITION_LIMIT_MS,
      });
    });
  });
}

/** NAMESPACE by default; SHOWN for all, ELSEWHERE as it is asked for, and the apps' namespace not named. */
function visibilities(elsewhere: Visibility): string {
  const of = (namespace: string, visibility: Visibility) => {
    const matchLabels = { "kubernetes.io/metadata.name": namespace };
    return { visibility, matchingRules: [{ namespaceSelector: { matchLabels } }] };
  };
  const policies = [of(SHOWN, "PUBLIC"), of(ELSEWHERE, elsewhere)];
  return `serviceEntryVisibility: ${JSON.stringify({ defaultVisibility: "NAMESPACE", policies })}\n`;
}

function entry(name: string, namespace: string, host: string, leads: keyof typeof ENDPOINTS): object {
  const address = `${ENDPOINTS[leads]}.${NAMESPACE}.svc.cluster.local`;
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name, namespace },
    spec: {
      hosts: [host],
      location: "MESH_EXTERNAL",
      resolution: "DNS",
      ports: [{ number: 80, name: "http", protocol: "HTTP", targetPort: ECHO_PORTS.http }],
      endpoints: [{ address }],
    },
  };
}
