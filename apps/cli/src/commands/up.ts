import { fileURLToPath } from "node:url";
import { buildCommand } from "@stricli/core";
import { lazily } from "../command.ts";
import type { CliContext } from "../context.ts";
import { whole } from "./whole.ts";

interface UpFlags {
  readonly name: string;
  readonly portOffset: number;
  readonly readyTimeout: number;
}

const LOCAL_MAIN = fileURLToPath(new URL("../../../local/src/main.ts", import.meta.url));
const MAX_PORT_OFFSET = 60_000;
const DEFAULT_READY_SECONDS = 120;
const MAX_READY_SECONDS = 3600;

export const upCommand = buildCommand<UpFlags, [string?], CliContext>({
  loader: lazily(async () => up),
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        {
          brief: "Directory of Kubernetes YAML; default: the current one",
          parse: String,
          placeholder: "dir",
          optional: true,
        },
      ],
    },
    flags: {
      name: {
        kind: "parsed",
        parse: String,
        brief: "Name of the mesh, 1 to 8 letters and digits: several fit on one machine",
        default: "local",
      },
      portOffset: {
        kind: "parsed",
        parse: whole(0, MAX_PORT_OFFSET),
        brief: "Added to the ports of LoadBalancer services on this machine",
        default: "0",
      },
      readyTimeout: {
        kind: "parsed",
        parse: whole(1, MAX_READY_SECONDS),
        brief: "Seconds until a pod that is not ready counts as failed",
        default: String(DEFAULT_READY_SECONDS),
      },
    },
  },
  docs: {
    brief: "Run a mesh on this machine from a directory of Kubernetes YAML",
    fullDescription:
      "Brings up two nodes and the pods of the directory as network namespaces, with a ztunnel on each node, until Ctrl-C. " +
      "Changes of the directory take effect while it runs. Needs root.",
  },
});

function up(context: CliContext, flags: UpFlags, directory = "."): Promise<number> {
  return context.runProcess(LOCAL_MAIN, [
    directory,
    ...["--name", flags.name],
    ...["--port-offset", String(flags.portOffset)],
    ...["--ready-timeout", String(flags.readyTimeout)],
  ]);
}
