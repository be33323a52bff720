import { labelName, labels, metadata, PORT_NAME, port, portNumber, selector, subdomainName } from "./common-fields.ts";
import { serviceEntry, workloadEntry } from "./entry-fields.ts";
import { podTemplate } from "./pod-fields.ts";
import { authorizationPolicy, peerAuthentication } from "./policy-fields.ts";
import { boolean, type Check, either, ignored, integer, list, object, oneOf, string } from "./schema.ts";

/** Which fields of which kind are honoured, which are without effect here, and which are refused with a reason. */

/** More pods than one machine of this kind can hold anyway: each is a process of its own. */
const MAX_REPLICAS = 50;
const SECURITY_VERSIONS = ["security.istio.io/v1", "security.istio.io/v1beta1"];
const NETWORKING_VERSIONS = ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];

/** What the local mesh plays itself, and what its control plane reads. */
export type Kind =
  | "Namespace"
  | "ServiceAccount"
  | "Service"
  | "Deployment"
  | "AuthorizationPolicy"
  | "PeerAuthentication"
  | "ServiceEntry"
  | "WorkloadEntry";

/** `spec` of every kind, and whether the kind lives in a namespace. */
const SPECS: Readonly<Record<Kind, { readonly apiVersions: readonly string[]; readonly check: Check }>> = {
  Namespace: {
    apiVersions: ["v1"],
    check: object({ metadata: metadata(labelName, false), spec: object({ finalizers: ignored }), status: ignored }),
  },
  ServiceAccount: {
    apiVersions: ["v1"],
    check: object({
      metadata: metadata(subdomainName, true),
      secrets: ignored,
      imagePullSecrets: ignored,
      automountServiceAccountToken: ignored,
    }),
  },
  Service: {
    apiVersions: ["v1"],
    check: object(
      {
        metadata: metadata(labelName, true),
        spec: object({
          type: oneOf("ClusterIP", "LoadBalancer"),
          clusterIP: either('must be "None" or left out: addresses are given out by the mesh', oneOf("None", "")),
          selector: labels,
          ipFamilies: list(oneOf("IPv4", "IPv6"), { max: 2 }),
          ipFamilyPolicy: oneOf("SingleStack", "PreferDualStack", "RequireDualStack"),
          sessionAffinity: oneOf("None"),
          internalTrafficPolicy: oneOf("Cluster"),
          externalTrafficPolicy: oneOf("Cluster"),
          publishNotReadyAddresses: boolean,
          ports: list(
            object(
              {
                name: string(PORT_NAME, "is not a valid port name"),
                port: portNumber,
                targetPort: port,
                protocol: oneOf("TCP"),
                appProtocol: string(),
              },
              ["port"],
            ),
          ),
        }),
        status: ignored,
      },
      ["spec"],
    ),
  },
  Deployment: {
    apiVersions: ["apps/v1"],
    check: object(
      {
        metadata: metadata(subdomainName, true),
        spec: object(
          {
            replicas: integer(0, MAX_REPLICAS),
            selector,
            template: podTemplate,
            strategy: object({ type: oneOf("RollingUpdate"), rollingUpdate: ignored }),
            revisionHistoryLimit: ignored,
            progressDeadlineSeconds: ignored,
          },
          ["selector", "template"],
        ),
        status: ignored,
      },
      ["spec"],
    ),
  },
  AuthorizationPolicy: {
    apiVersions: SECURITY_VERSIONS,
    check: authorizationPolicy,
  },
  PeerAuthentication: {
    apiVersions: SECURITY_VERSIONS,
    check: peerAuthentication,
  },
  ServiceEntry: {
    apiVersions: NETWORKING_VERSIONS,
    check: serviceEntry,
  },
  WorkloadEntry: {
    apiVersions: NETWORKING_VERSIONS,
    check: workloadEntry,
  },
};

export const KINDS = Object.keys(SPECS) as readonly Kind[];

export function isKind(kind: unknown): kind is Kind {
  return typeof kind === "string" && Object.hasOwn(SPECS, kind);
}

/** Checks everything of a document but `kind`, which the caller has looked at. */
export function checkOf(kind: Kind): Check {
  const { apiVersions, check } = SPECS[kind];
  return (value, path, report) => {
    const { apiVersion, kind: _kind, ...rest } = value as Record<string, unknown>;
    if (!apiVersions.includes(apiVersion as string)) {
      report([...path, "apiVersion"], `must be ${apiVersions.join(" or ")} for a ${kind}`);
    }
    if (rest.metadata === undefined) report(path, 'must have "metadata"');
    check(rest, path, report);
  };
}
