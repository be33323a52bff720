import type { LabelExpression, LabelSelector } from "@tulle/base";
import { parse } from "yaml";
import type { PolicySettings } from "./authorization-policy.ts";
import type { MeshSettings, ServiceEntryVisibility, ServiceScopeConfig, Visibility } from "./context.ts";

/** MeshConfig as far as Tulle follows it (control-plane.md §1.5). */
export interface MeshConfig {
  readonly settings: MeshSettings & PolicySettings;
  /** Fields that are there and known to Istio but without effect here. Sorted. */
  readonly ignored: readonly string[];
  /** Fields that nobody knows. Sorted. They have no effect either. */
  readonly unknown: readonly string[];
}

export type ParsedMeshConfig =
  | { readonly kind: "usable"; readonly config: MeshConfig }
  /** What is wrong, a line each. */
  | { readonly kind: "unusable"; readonly problems: readonly string[] };

/** More than a ConfigMap holds. */
const MAX_TEXT = 1 << 20;
/** Each is one more alternative in every principal of every policy. */
const MAX_TRUST_DOMAIN_ALIASES = 64;
/** Of one list of selectors, rules or policies. Each is tried on every namespace or service. */
const MAX_LIST = 256;
const TRUST_DOMAIN = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?$/;
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const OPERATORS: ReadonlySet<string> = new Set(["In", "NotIn", "Exists", "DoesNotExist"]);

/** Istio's other fields: of sidecars, gateways and waypoints, or of things that ztunnel has its own settings for. */
const IGNORED: ReadonlySet<string> = new Set(
  `accessLogEncoding accessLogFile accessLogFormat ca caCertificates certificates configSources connectTimeout
  defaultConfig defaultDestinationRuleExportTo defaultHttpRetryPolicy defaultProviders defaultServiceExportTo
  defaultTrafficPolicy defaultVirtualServiceExportTo disableEnvoyListenerLog dnsRefreshRate enableAutoMtls
  enableEnvoyAccessLogService enablePrometheusMerge enableTracing extensionProviders h2UpgradePolicy hboneIdleTimeout
  inboundClusterStatName inboundTrafficPolicy ingressClass ingressControllerMode ingressSelector ingressService
  localityLbSetting meshMTLS outboundClusterStatName outboundTrafficPolicy pathNormalization protocolDetectionTimeout
  proxyHttpPort proxyInboundListenPort proxyListenPort serviceSettings tcpKeepalive tlsDefaults
  verifyCertificateAtClient zoneAwareLbSetting`.split(/\s+/),
);

/**
 * The text under `mesh` in the ConfigMap. `base`: what holds where it says nothing. A field that is there but cannot be
 * read makes the whole unusable: half of a configuration may be more open than all of it or none.
 */
export function parseMeshConfig(text: string, base: MeshSettings & PolicySettings): ParsedMeshConfig {
  if (text.length > MAX_TEXT) return unusable([`longer than ${MAX_TEXT} characters`]);
  let document: unknown;
  try {
    document = parse(text) ?? {};
  } catch (error) {
    // The rest of a YAML error is a drawing of the place.
    const [first = "not YAML"] = String(error instanceof Error ? error.message : error).split("\n");
    return unusable([first]);
  }
  const problems: string[] = [];
  const reader = new Reader(problems);
  const root = reader.message(document, "", undefined);
  const { trustDomain, trustDomainAliases, rootNamespace, discoverySelectors, serviceScopeConfigs } = root;
  const settings: MeshSettings & PolicySettings = {
    ...base,
    trustDomain: reader.text(trustDomain, "trustDomain", TRUST_DOMAIN) ?? base.trustDomain,
    trustDomainAliases: reader.texts(trustDomainAliases, "trustDomainAliases", TRUST_DOMAIN, MAX_TRUST_DOMAIN_ALIASES),
    rootNamespace: reader.text(rootNamespace, "rootNamespace", NAMESPACE) ?? base.rootNamespace,
    discoverySelectors: reader.list(discoverySelectors, "discoverySelectors", (item, at) => reader.selector(item, at)),
    serviceScopeConfigs: reader.list(serviceScopeConfigs, "serviceScopeConfigs", (item, at) => scope(reader, item, at)),
    serviceEntryVisibility: visibilities(reader, root["serviceEntryVisibility"]),
  };
  if (problems.length > 0) return unusable(problems);
  const others = Object.keys(root).filter((name) => !FOLLOWED.has(name));
  const ignored = others.filter((name) => IGNORED.has(name)).sort();
  return { kind: "usable", config: { settings, ignored, unknown: others.filter((name) => !IGNORED.has(name)).sort() } };
}

const FOLLOWED: ReadonlySet<string> = new Set([
  "trustDomain",
  "trustDomainAliases",
  "rootNamespace",
  "discoverySelectors",
  "serviceScopeConfigs",
  "serviceEntryVisibility",
]);

function scope(reader: Reader, item: unknown, at: string): ServiceScopeConfig {
  const fields = reader.message(item, at, ["namespaceSelector", "servicesSelector", "scope"]);
  const { namespaceSelector, servicesSelector } = fields;
  return {
    namespaceSelector: absent(namespaceSelector)
      ? undefined
      : reader.selector(namespaceSelector, `${at}.namespaceSelector`),
    servicesSelector: absent(servicesSelector)
      ? undefined
      : reader.selector(servicesSelector, `${at}.servicesSelector`),
    scope: reader.oneOf(fields["scope"], `${at}.scope`, ["LOCAL", "GLOBAL"]) ?? "LOCAL",
  };
}

function visibilities(reader: Reader, from: unknown): ServiceEntryVisibility | undefined {
  if (absent(from)) return undefined;
  const at = "serviceEntryVisibility";
  // What sidecars do is not ours.
  const fields = reader.message(from, at, ["defaultVisibility", "applyToSidecars", "policies"]);
  return {
    defaultVisibility: visibility(reader, fields["defaultVisibility"], `${at}.defaultVisibility`),
    policies: reader.list(fields["policies"], `${at}.policies`, (item, place) => {
      const policy = reader.message(item, place, ["visibility", "matchingRules"]);
      const rules = reader.list(policy["matchingRules"], `${place}.matchingRules`, (rule, where) => {
        const { namespaceSelector } = reader.message(rule, where, ["namespaceSelector"]);
        return { namespaceSelector: reader.selector(namespaceSelector, `${where}.namespaceSelector`) };
      });
      return { visibility: visibility(reader, policy["visibility"], `${place}.visibility`), matchingRules: rules };
    }),
  };
}

function visibility(reader: Reader, from: unknown, at: string): Visibility {
  const read = reader.oneOf(from, at, ["PUBLIC", "NAMESPACE", "NONE", "VISIBILITY_UNSPECIFIED"]) ?? "PUBLIC";
  return read === "VISIBILITY_UNSPECIFIED" ? "PUBLIC" : read;
}

function absent(value: unknown): boolean {
  return value === undefined || value === null;
}

function unusable(problems: readonly string[]): ParsedMeshConfig {
  return { kind: "unusable", problems };
}

/** Values with their types; what is wrong is told, with the place, and something harmless returned. */
class Reader {
  readonly #problems: string[];

  constructor(problems: string[]) {
    this.#problems = problems;
  }

  /** Names as JSON has them; `trust_domain` is the same as `trustDomain`. `known`: another name is wrong. */
  message(from: unknown, at: string, known: readonly string[] | undefined): Readonly<Record<string, unknown>> {
    if (typeof from !== "object" || from === null || Array.isArray(from)) {
      this.#wrong(at, "must be a map of fields");
      return {};
    }
    const fields = new Map<string, unknown>();
    for (const [key, value] of Object.entries(from)) {
      const name = key.replace(/_([a-zA-Z0-9])/g, (_, letter: string) => letter.toUpperCase());
      if (fields.has(name)) this.#wrong(at, `has ${name} twice`);
      if (known !== undefined && !known.includes(name)) this.#wrong(at, `has the unknown field ${key}`);
      if (!absent(value)) fields.set(name, value);
    }
    return Object.fromEntries(fields);
  }

  list<T>(from: unknown, at: string, read: (item: unknown, at: string) => T): readonly T[] {
    if (absent(from)) return [];
    if (!Array.isArray(from)) {
      this.#wrong(at, "must be a list");
      return [];
    }
    if (from.length > MAX_LIST) {
      this.#wrong(at, `has ${from.length} entries; at most ${MAX_LIST} are allowed`);
      return [];
    }
    return from.map((item: unknown, index) => read(item, `${at}[${index}]`));
  }

  /** Undefined when absent; an empty text is the same. */
  text(from: unknown, at: string, pattern: RegExp): string | undefined {
    if (absent(from) || from === "") return undefined;
    if (typeof from === "string" && pattern.test(from)) return from;
    this.#wrong(at, `${JSON.stringify(from)?.slice(0, 100)} is not a usable name`);
    return undefined;
  }

  texts(from: unknown, at: string, pattern: RegExp, max: number): readonly string[] {
    const read = this.list(from, at, (item, place) => {
      const text = this.text(item, place, pattern);
      if (text === undefined && (absent(item) || item === "")) this.#wrong(place, "is empty");
      return text ?? "";
    });
    if (read.length > max) this.#wrong(at, `has ${read.length} entries; at most ${max} are allowed`);
    return read;
  }

  oneOf<T extends string>(from: unknown, at: string, values: readonly T[]): T | undefined {
    if (absent(from)) return undefined;
    const known = values.find((value) => value === from);
    if (known === undefined) this.#wrong(at, `must be one of ${values.join(", ")}`);
    return known;
  }

  /** Present and empty selects everything; so a misspelt field must not be taken for that. */
  selector(from: unknown, at: string): LabelSelector {
    const { matchLabels, matchExpressions } = this.message(from, at, ["matchLabels", "matchExpressions"]);
    const labels: unknown = matchLabels ?? {};
    if (typeof labels !== "object" || labels === null || Array.isArray(labels)) {
      this.#wrong(`${at}.matchLabels`, "must be a map of labels");
    } else {
      for (const [name, value] of Object.entries(labels)) {
        if (typeof value !== "string") this.#wrong(`${at}.matchLabels.${name}`, "must be a text");
      }
    }
    return {
      matchLabels: labels as Record<string, string>,
      matchExpressions: this.list(matchExpressions, `${at}.matchExpressions`, (item, place) =>
        this.#expression(item, place),
      ),
    };
  }

  #expression(from: unknown, at: string): LabelExpression {
    const { key, operator, values } = this.message(from, at, ["key", "operator", "values"]);
    if (typeof key !== "string" || key === "") this.#wrong(`${at}.key`, "must be the name of a label");
    if (typeof operator !== "string" || !OPERATORS.has(operator)) {
      this.#wrong(`${at}.operator`, `must be one of ${[...OPERATORS].join(", ")}`);
    }
    const texts = this.list(values, `${at}.values`, (item, place) => {
      if (typeof item !== "string") this.#wrong(place, "must be a text");
      return String(item);
    });
    const needsValues = operator === "In" || operator === "NotIn";
    if (needsValues !== texts.length > 0) {
      this.#wrong(`${at}.values`, needsValues ? "must not be empty" : "must be empty with this operator");
    }
    return { key: String(key), operator: String(operator), values: texts };
  }

  #wrong(at: string, what: string): void {
    this.#problems.push(`${at === "" ? "the configuration" : at} ${what}`);
  }
}
