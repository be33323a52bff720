import { fileURLToPath } from "node:url";
import { buildCommand } from "@stricli/core";
import { lazily } from "../command.ts";
import type { CliContext } from "../context.ts";

interface DownFlags {
  readonly name: string;
  readonly purge: boolean;
}

const LOCAL_MAIN = fileURLToPath(new URL("../../../local/src/main.ts", import.meta.url));

export const downCommand = buildCommand<DownFlags, [], CliContext>({
  loader: lazily(async () => down),
  parameters: {
    flags: {
      name: { kind: "parsed", parse: String, brief: "Name of the mesh", default: "local" },
      purge: {
        kind: "boolean",
        brief: "Forget its objects, keys and addresses, too",
        default: false,
        withNegated: false,
      },
    },
  },
  docs: {
    brief: "End the local mesh that runs on this machine",
    fullDescription:
      "Ends what tulle up has started, in an orderly way, from another terminal. The objects with their status, and the names, " +
      "uids and addresses of the pods, stay for the next start and for tulle get, unless --purge is given. Needs root.",
  },
});

function down({ runProcess }: CliContext, { name, purge }: DownFlags): Promise<number> {
  return runProcess(LOCAL_MAIN, ["down", "--name", name, ...(purge ? ["--purge"] : [])]);
}
