import { buildCommand } from "@stricli/core";
import type { CliContext } from "../context.ts";
import { VERSION } from "../version.ts";

export const versionCommand = buildCommand({
  func(this: CliContext) {
    this.process.stdout.write(`tulle ${VERSION} (node ${process.versions.node})\n`);
  },
  parameters: {},
  docs: { brief: "Show the version" },
});
