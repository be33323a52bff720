import { buildCommand } from "@stricli/core";
import type { CheckFlags } from "../cluster/check-command.ts";
import { CLUSTER_ALIASES, CLUSTER_FLAGS, lazily } from "../command.ts";
import type { CliContext } from "../context.ts";
import { OUTPUT_FLAG } from "../ui/format.ts";

export const checkCommand = buildCommand<CheckFlags, [], CliContext>({
  loader: lazily(async () => (await import("../cluster/check-command.ts")).check),
  parameters: {
    flags: {
      ...CLUSTER_FLAGS,
      pre: { kind: "boolean", brief: "Look whether Tulle can be installed", default: false, withNegated: false },
      output: OUTPUT_FLAG,
    },
    aliases: { ...CLUSTER_ALIASES, o: "output" },
  },
  docs: { brief: "Look for what is wrong, and say what to do", fullDescription: "Exit code 1 when a check fails." },
});
