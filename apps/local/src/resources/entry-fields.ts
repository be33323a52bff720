import { labels, metadata, portNumber, strings, subdomainName } from "./common-fields.ts";
import { type Check, ignored, integer, list, mapOf, object, oneOf, string } from "./schema.ts";

/** Istio's ServiceEntry and WorkloadEntry: hosts and workloads that are no pods of this mesh. */

const MAX_WEIGHT = 1_000_000;

const workload: Readonly<Record<string, Check>> = {
  address: string(),
  ports: mapOf(portNumber),
  labels,
  network: string(),
  locality: string(),
  weight: integer(0, MAX_WEIGHT),
  serviceAccount: string(),
};

export const serviceEntry = object(
  {
    metadata: metadata(subdomainName, true),
    spec: object(
      {
        hosts: list(string(), { min: 1 }),
        addresses: strings,
        ports: list(
          object({ name: string(), number: portNumber, targetPort: portNumber, protocol: string() }, [
            "name",
            "number",
          ]),
        ),
        location: oneOf("MESH_EXTERNAL", "MESH_INTERNAL"),
        resolution: oneOf("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"),
        endpoints: list(object(workload)),
        workloadSelector: object({ labels }),
        exportTo: strings,
        subjectAltNames: strings,
      },
      ["hosts"],
    ),
    status: ignored,
  },
  ["spec"],
);

export const workloadEntry = object(
  { metadata: metadata(subdomainName, true), spec: object(workload, ["address"]), status: ignored },
  ["spec"],
);
