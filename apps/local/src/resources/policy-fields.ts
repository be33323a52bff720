import { metadata, selector, strings, subdomainName } from "./common-fields.ts";
import { ignored, list, mapOf, object, oneOf, string } from "./schema.ts";

/** What a policy may say; what of it is enforced is decided where policies are compiled, and told there. */

const matchItem = object({
  source: object({
    principals: strings,
    notPrincipals: strings,
    serviceAccounts: strings,
    notServiceAccounts: strings,
    namespaces: strings,
    notNamespaces: strings,
    ipBlocks: strings,
    notIpBlocks: strings,
    remoteIpBlocks: strings,
    notRemoteIpBlocks: strings,
    requestPrincipals: strings,
    notRequestPrincipals: strings,
  }),
});

const operationItem = object({
  operation: object({
    ports: strings,
    notPorts: strings,
    hosts: strings,
    notHosts: strings,
    methods: strings,
    notMethods: strings,
    paths: strings,
    notPaths: strings,
  }),
});

const targetRef = object({ group: string(), kind: string(), name: string(), namespace: string() }, ["kind", "name"]);

export const authorizationPolicy = object({
  metadata: metadata(subdomainName, true),
  spec: object({
    selector,
    action: oneOf("ALLOW", "DENY"),
    rules: list(
      object({
        from: list(matchItem),
        to: list(operationItem),
        when: list(object({ key: string(), values: strings, notValues: strings }, ["key"])),
      }),
    ),
    // No waypoint is there yet that would enforce it, which its status says, as on a cluster.
    targetRef,
    targetRefs: list(targetRef),
  }),
  status: ignored,
});

const mode = oneOf("UNSET", "DISABLE", "PERMISSIVE", "STRICT");

export const peerAuthentication = object({
  metadata: metadata(subdomainName, true),
  spec: object({ selector, mtls: object({ mode }), portLevelMtls: mapOf(object({ mode })) }),
  status: ignored,
});
