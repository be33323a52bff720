import { type Cidr, parseCidr } from "@tulle/base";
import { EMPTY_MATCH } from "../defaults.ts";
import type { Policy, PolicyMatch, ServiceAccountMatch, StringMatch } from "../model.ts";
import { readPort } from "./resources.ts";
import type { YamlCursor } from "./yaml-cursor.ts";

const POLICY_KEYS = ["name", "namespace", "scope", "action", "rules", "dryRun"] as const;

const MATCH_KEYS = Object.keys(EMPTY_MATCH);

/** One item of `policies` (spec: l4-ztunnel §5.8). */
export function readPolicy(at: YamlCursor): Policy {
  const fields = at.fields(POLICY_KEYS, POLICY_KEYS);
  const field = (key: (typeof POLICY_KEYS)[number]) => fields.get(key) ?? at;
  return {
    name: field("name").text(),
    namespace: field("namespace").text(),
    scope: field("scope").choice(["Global", "Namespace", "WorkloadSelector"]),
    action: field("action").choice(["Allow", "Deny"]),
    dryRun: field("dryRun").flag(),
    rules: field("rules").list((clauses) => clauses.list((matches) => matches.list(readMatch))),
  };
}

/** An unknown key is an error here, too: a condition that is silently ignored could leave an ALLOW wide open. */
function readMatch(at: YamlCursor): PolicyMatch {
  const fields = at.fields(MATCH_KEYS);
  const list = <T>(key: keyof PolicyMatch, read: (item: YamlCursor) => T) => fields.get(key)?.list(read) ?? [];
  return {
    namespaces: list("namespaces", readString),
    notNamespaces: list("notNamespaces", readString),
    principals: list("principals", readString),
    notPrincipals: list("notPrincipals", readString),
    serviceAccounts: list("serviceAccounts", readAccount),
    notServiceAccounts: list("notServiceAccounts", readAccount),
    sourceIps: list("sourceIps", readRange),
    notSourceIps: list("notSourceIps", readRange),
    destinationIps: list("destinationIps", readRange),
    notDestinationIps: list("notDestinationIps", readRange),
    destinationPorts: list("destinationPorts", readPort),
    notDestinationPorts: list("notDestinationPorts", readPort),
  };
}

function readString(at: YamlCursor): StringMatch {
  const [[kind, value] = ["", at], ...more] = at.entries();
  if (more.length === 0) {
    if (kind === "Exact") return { kind: "exact", value: value.text() };
    if (kind === "Prefix") return { kind: "prefix", value: value.text() };
    if (kind === "Suffix") return { kind: "suffix", value: value.text() };
    if (kind === "Presence") return { kind: "presence" };
  }
  return at.fail("expected exactly one of Exact, Prefix, Suffix, Presence");
}

function readAccount(at: YamlCursor): ServiceAccountMatch {
  const keys = ["namespace", "serviceAccount"];
  const fields = at.fields(keys, keys);
  return {
    namespace: (fields.get("namespace") ?? at).text(),
    serviceAccount: (fields.get("serviceAccount") ?? at).text(),
  };
}

function readRange(at: YamlCursor): Cidr {
  const text = at.text();
  return parseCidr(text) ?? at.fail(`"${text}" is no address range`);
}
