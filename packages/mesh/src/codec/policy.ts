import { type Cidr, cidrOf } from "@tulle/base";
import type { Policy, PolicyMatch, ServiceAccountMatch, StringMatch } from "../model.ts";
import { malformed, type WireReader, type WireWriter } from "./wire.ts";
import { placeOf } from "./workload.ts";

const SCOPES: readonly Policy["scope"][] = ["Global", "Namespace", "WorkloadSelector"];
const ACTIONS: readonly Policy["action"][] = ["Allow", "Deny"];
const STRING_MATCHES: readonly StringMatch["kind"][] = ["exact", "prefix", "suffix", "presence"];

export function writePolicy(out: WireWriter, policy: Policy): void {
  out.text(policy.name);
  out.text(policy.namespace);
  out.byte(placeOf(SCOPES, policy.scope));
  out.byte(placeOf(ACTIONS, policy.action));
  out.flag(policy.dryRun);
  out.list(policy.rules, (clauses) => out.list(clauses, (matches) => out.list(matches, (m) => writeMatch(out, m))));
}

export function readPolicy(from: WireReader): Policy {
  return {
    name: from.text(),
    namespace: from.sharedText(),
    scope: from.choice(SCOPES),
    action: from.choice(ACTIONS),
    dryRun: from.flag(),
    rules: from.list(() => from.list(() => from.list(() => readMatch(from)))),
  };
}

function writeMatch(out: WireWriter, match: PolicyMatch): void {
  const strings = (values: readonly StringMatch[]) => out.list(values, (value) => writeString(out, value));
  const accounts = (values: readonly ServiceAccountMatch[]) =>
    out.list(values, (value) => {
      out.text(value.namespace);
      out.text(value.serviceAccount);
    });
  const ranges = (values: readonly Cidr[]) =>
    out.list(values, (value) => {
      out.ipBytes(value.bytes);
      out.byte(value.bits);
    });
  const ports = (values: readonly number[]) => out.list(values, (value) => out.number(value));
  strings(match.namespaces);
  strings(match.notNamespaces);
  strings(match.principals);
  strings(match.notPrincipals);
  accounts(match.serviceAccounts);
  accounts(match.notServiceAccounts);
  ranges(match.sourceIps);
  ranges(match.notSourceIps);
  ranges(match.destinationIps);
  ranges(match.notDestinationIps);
  ports(match.destinationPorts);
  ports(match.notDestinationPorts);
}

function readMatch(from: WireReader): PolicyMatch {
  const strings = () => from.list(() => readString(from));
  const accounts = () => from.list(() => ({ namespace: from.sharedText(), serviceAccount: from.sharedText() }));
  const ranges = () => from.list(() => readRange(from));
  const ports = () => from.list(() => from.number());
  return {
    namespaces: strings(),
    notNamespaces: strings(),
    principals: strings(),
    notPrincipals: strings(),
    serviceAccounts: accounts(),
    notServiceAccounts: accounts(),
    sourceIps: ranges(),
    notSourceIps: ranges(),
    destinationIps: ranges(),
    notDestinationIps: ranges(),
    destinationPorts: ports(),
    notDestinationPorts: ports(),
  };
}

function writeString(out: WireWriter, match: StringMatch): void {
  out.byte(placeOf(STRING_MATCHES, match.kind));
  if (match.kind !== "presence") out.text(match.value);
}

function readString(from: WireReader): StringMatch {
  const kind = from.choice(STRING_MATCHES);
  return kind === "presence" ? { kind } : { kind, value: from.sharedText() };
}

function readRange(from: WireReader): Cidr {
  const cidr = cidrOf(from.ipBytes(), from.byte());
  if (cidr === undefined) throw malformed("address range with too long a prefix");
  return cidr;
}
