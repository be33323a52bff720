import { buildCommand } from "@stricli/core";
import type { VersionFlags } from "../cluster/version-command.ts";
import { CLUSTER_ALIASES, CLUSTER_FLAGS, lazily } from "../command.ts";
import type { CliContext } from "../context.ts";
import { OUTPUT_FLAG } from "../ui/format.ts";

export const versionCommand = buildCommand<VersionFlags, [], CliContext>({
  loader: lazily(async () => (await import("../cluster/version-command.ts")).showVersion),
  parameters: {
    flags: {
      ...CLUSTER_FLAGS,
      output: OUTPUT_FLAG,
      remote: { kind: "boolean", brief: "Also ask the cluster what runs there", default: true },
    },
    aliases: { ...CLUSTER_ALIASES, o: "output" },
  },
  docs: { brief: "Show the versions of this program, the control plane and the proxies" },
});
