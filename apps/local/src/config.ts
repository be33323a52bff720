import { parseArgs } from "node:util";
import { isAbsolute, resolve } from "node:path";
import { MESH_NAME } from "./state-folder.ts";

/** What a start of the local mesh can be told. */
export interface LocalConfig {
  /** The directory of YAML. */
  readonly directory: string;
  /** Tells several meshes on one machine apart. */
  readonly name: string;
  /** Added to every port that is published on this machine. */
  readonly portOffset: number;
  /** How long everything may take to become ready, in milliseconds. */
  readonly readyTimeoutMs: number;
}

export const USAGE = `Usage: tulle up [DIR] [--name NAME] [--port-offset N] [--ready-timeout SECONDS]

  DIR              directory of Kubernetes YAML (default: the current one)
  --name           1 to 8 letters and digits; several meshes fit on one machine under different names (default: local)
  --port-offset    added to the ports of LoadBalancer services on this machine (default: 0)
  --ready-timeout  seconds until a pod that is not ready counts as failed (default: 120)
`;

const DEFAULT_NAME = "local";
const DEFAULT_READY_SECONDS = 120;
const MAX_READY_SECONDS = 3600;

/** Throws an Error whose message says which argument is wrong. */
export function parseConfig(args: readonly string[], cwd: string): LocalConfig {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      name: { type: "string", default: DEFAULT_NAME },
      "port-offset": { type: "string", default: "0" },
      "ready-timeout": { type: "string", default: String(DEFAULT_READY_SECONDS) },
    },
  });
  if (positionals.length > 1)
    throw new Error(`one directory is enough, not ${positionals.length}: ${positionals.join(" ")}`);
  const { name } = values;
  if (!MESH_NAME.test(name)) throw new Error(`--name ${name}: use 1 to 8 lower-case letters and digits`);
  const [directory = "."] = positionals;
  return {
    directory: isAbsolute(directory) ? directory : resolve(cwd, directory),
    name,
    portOffset: whole("--port-offset", values["port-offset"], 0, 60_000),
    readyTimeoutMs: whole("--ready-timeout", values["ready-timeout"], 1, MAX_READY_SECONDS) * 1000,
  };
}

function whole(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new Error(`${option} ${text}: use a whole number from ${min} to ${max}`);
  }
  return value;
}
