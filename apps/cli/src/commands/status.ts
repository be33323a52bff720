import { buildCommand } from "@stricli/core";
import type { StatusFlags } from "../cluster/status-command.ts";
import { CLUSTER_ALIASES, lazily, MESH_FLAGS } from "../command.ts";
import type { CliContext } from "../context.ts";
import { OUTPUT_FLAG } from "../ui/format.ts";

export const statusCommand = buildCommand<StatusFlags, [], CliContext>({
  loader: lazily(async () => (await import("../cluster/status-command.ts")).showStatus),
  parameters: { flags: { ...MESH_FLAGS, output: OUTPUT_FLAG }, aliases: { ...CLUSTER_ALIASES, o: "output" } },
  docs: {
    brief: "Show what is installed, which pods are captured, and what does not work as written",
    fullDescription:
      "Exit code 1 when a part is not ready, a meshed pod is not captured, or an object is not in effect as written.",
  },
});
