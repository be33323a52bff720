import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { MESH_NAME } from "./run-folder.ts";

/** What the program of the local mesh is asked for. */
export type LocalConfig = UpConfig | DownConfig;

export interface UpConfig {
  readonly command: "up";
  /** The directory of YAML. */
  readonly directory: string;
  /** Tells several meshes on one machine apart. */
  readonly name: string;
  /** Added to every port that is published on this machine. */
  readonly portOffset: number;
  /** How long everything may take to become ready, in milliseconds. */
  readonly readyTimeoutMs: number;
}

export interface DownConfig {
  readonly command: "down";
  readonly name: string;
  /** Forget its objects, keys and addresses, too. */
  readonly purge: boolean;
}

export const USAGE = `Usage: tulle up [DIR] [--name NAME] [--port-offset N] [--ready-timeout SECONDS]
       tulle down [--name NAME] [--purge]

  DIR              directory of Kubernetes YAML (default: the current one)
  --name           1 to 8 letters and digits; several meshes fit on one machine under different names (default: local)
  --port-offset    added to the ports of LoadBalancer services on this machine (default: 0)
  --ready-timeout  seconds until a pod that is not ready counts as failed (default: 120)
  --purge          forget the mesh's objects, keys and addresses, which otherwise stay for the next start
`;

const DEFAULT_NAME = "local";
const DEFAULT_READY_SECONDS = 120;
const MAX_READY_SECONDS = 3600;

/** Throws an Error whose message says which argument is wrong. */
export function parseConfig(args: readonly string[], cwd: string): LocalConfig {
  const [command, ...rest] = args;
  if (command === "down") return parseDown(rest);
  return parseUp(command === "up" ? rest : args, cwd);
}

function parseUp(args: readonly string[], cwd: string): UpConfig {
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
  const [directory = "."] = positionals;
  return {
    command: "up",
    directory: isAbsolute(directory) ? directory : resolve(cwd, directory),
    name: meshName(values.name),
    portOffset: whole("--port-offset", values["port-offset"], 0, 60_000),
    readyTimeoutMs: whole("--ready-timeout", values["ready-timeout"], 1, MAX_READY_SECONDS) * 1000,
  };
}

function parseDown(args: readonly string[]): DownConfig {
  const { values } = parseArgs({
    args: [...args],
    options: {
      name: { type: "string", default: DEFAULT_NAME },
      purge: { type: "boolean", default: false },
    },
  });
  return { command: "down", name: meshName(values.name), purge: values.purge };
}

function meshName(name: string): string {
  if (!MESH_NAME.test(name)) throw new Error(`--name ${name}: use 1 to 8 lower-case letters and digits`);
  return name;
}

function whole(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new Error(`${option} ${text}: use a whole number from ${min} to ${max}`);
  }
  return value;
}
