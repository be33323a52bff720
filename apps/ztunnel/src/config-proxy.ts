import { messageOf } from "@tulle/base";
import type { EnvironmentReader } from "./config-values.ts";

/** Istio's ProxyConfig as far as ztunnel reads it (spec: l4-ztunnel §10); other keys are ignored. */
export interface ProxyConfig {
  readonly discoveryAddress: string | undefined;
  readonly proxyAdminPort: number | undefined;
  readonly statsPort: number | undefined;
  /** 0: all cores. */
  readonly concurrency: number | undefined;
  readonly proxyMetadata: Readonly<Record<string, string>>;
}

export interface ProxyConfigFile {
  readonly path: string;
  /** undefined: there is no such file. */
  readonly text: string | undefined;
}

const MAX_CONCURRENCY = 512;

/** PROXY_CONFIG over the `defaultConfig` of the mesh file. YAML is loaded only when there is any. */
export async function readProxyConfig(env: EnvironmentReader, meshFile: ProxyConfigFile): Promise<ProxyConfig> {
  const text = env.text("PROXY_CONFIG");
  if (text === undefined && meshFile.text === undefined) return EMPTY;
  const { parse } = await import("yaml");
  const load = (where: string, yaml: string | undefined): unknown => {
    if (yaml === undefined) return undefined;
    try {
      return parse(yaml, { maxAliasCount: 100 });
    } catch (error) {
      env.problem(`${where} is not YAML: ${messageOf(error)}`);
      return undefined;
    }
  };
  const mesh = load(meshFile.path, meshFile.text);
  const below = proxyConfig(
    env,
    `defaultConfig in ${meshFile.path}`,
    isObject(mesh) ? mesh["defaultConfig"] : undefined,
  );
  if (text === undefined) return below;
  const parsed = load("PROXY_CONFIG", text);
  if (!isObject(parsed) || !isObject(parsed["proxyMetadata"])) {
    env.problem("PROXY_CONFIG must be an object with a proxyMetadata object in it, even if that is empty");
  }
  const above = proxyConfig(env, "PROXY_CONFIG", parsed);
  return {
    discoveryAddress: above.discoveryAddress ?? below.discoveryAddress,
    proxyAdminPort: above.proxyAdminPort ?? below.proxyAdminPort,
    statsPort: above.statsPort ?? below.statsPort,
    concurrency: above.concurrency ?? below.concurrency,
    proxyMetadata: { ...below.proxyMetadata, ...above.proxyMetadata },
  };
}

const EMPTY: ProxyConfig = {
  discoveryAddress: undefined,
  proxyAdminPort: undefined,
  statsPort: undefined,
  concurrency: undefined,
  proxyMetadata: {},
};

function proxyConfig(env: EnvironmentReader, where: string, value: unknown): ProxyConfig {
  if (value === undefined || value === null) return EMPTY;
  if (!isObject(value)) {
    env.problem(`${where} must be an object`);
    return EMPTY;
  }
  const integer = (key: string, max: number): number | undefined => {
    const number = value[key];
    if (number === undefined || number === null) return undefined;
    if (typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= max) return number;
    env.problem(`${key} in ${where} must be a whole number from 0 to ${max}`);
    return undefined;
  };
  const address = value["discoveryAddress"];
  if (address !== undefined && typeof address !== "string")
    env.problem(`discoveryAddress in ${where} must be a string`);
  return {
    discoveryAddress: typeof address === "string" && address !== "" ? address : undefined,
    proxyAdminPort: integer("proxyAdminPort", 65_535),
    statsPort: integer("statsPort", 65_535),
    concurrency: integer("concurrency", MAX_CONCURRENCY),
    proxyMetadata: metadata(env, where, value["proxyMetadata"]),
  };
}

/** Values are strings; YAML's own numbers and booleans are written as such. */
function metadata(env: EnvironmentReader, where: string, value: unknown): Readonly<Record<string, string>> {
  if (!isObject(value)) return {};
  const result: Record<string, string> = {};
  for (const [key, item] of Object.entries(value)) {
    if (typeof item === "string" || typeof item === "number" || typeof item === "boolean") result[key] = String(item);
    else env.problem(`proxyMetadata.${key} in ${where} must be a string`);
  }
  return result;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
